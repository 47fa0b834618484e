"""Measures a server's memory by number of workers, which share item vectors and the recommender's tensors.

    python benchmarks/worker_memory.py [--items 100000] [--workers 1 4] [--source OLD/src src]

A streaming model with random weights over a synthetic catalogue (two vectors of 384 per item), and a random
recommender of the same size, are served one after the other. Memory is the proportional set size (PSS) of the
server's processes, which counts shared pages once. Clients send events for five seconds before the measurement.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import palate
from answers import made_up_model
from catalogue import made_up
from folding import held_by, tree
from palate.config.recipe import Recipe
from palate.data.prepare import prepare
from palate.recommend.train import train_recommender
from palate.system.machine import describe_machine
from serving_parts.load import load, server


def model_run(folder: Path, items: int) -> Path:
    """Save a streaming model to a folder."""
    made_up_model("demo", np.random.default_rng(0), items).save_pretrained(folder / "model")
    return folder / "model"


def recommender_run(folder: Path, items: int) -> Path:
    """Save a run with a recommender of the given catalogue size and few events."""
    rng = np.random.default_rng(0)
    items_of = rng.integers(0, 40, 400)
    rows = "".join(f"{number // 10},{item},{number}\n" for number, item in enumerate(items_of))
    (folder / "events.csv").write_text("user,item,time\n" + rows)
    prepare([str(folder / "events.csv")], folder / "data", min_ratings=1)
    settings = {"texts": False, "rounds": 1, "network_size": 0}
    recipe = Recipe(data={"path": folder / "data"}, recommend=settings, train={"threads": 1})
    run = train_recommender(recipe, folder / "recommender")
    shutil.rmtree(run / "model")
    made_up(items, True, rng).save_pretrained(run / "model")
    return run


def mebibytes(run: Path, workers: int, source: Path | None) -> dict[str, object]:
    """Serve a run, send requests to every worker, and measure."""

    def ask(client: palate.Client, number: int) -> None:
        client.add_events(f"user-{number % 50}", [{"item_id": str(number % 1_000), "rating": 1.0}])

    with (
        TemporaryDirectory() as folder,
        server(run, Path(folder) / "users.sqlite", workers, source) as (url, process),
    ):
        asked = load(url, 4 * workers, 5, ask)
        each = sorted((held_by(one) for one in tree(str(process))), reverse=True)
    return {
        "workers": workers,
        "all_mib": sum(each) >> 20,
        "each_mib": [one >> 20 for one in each if one >> 20],
        "asked": asked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--source", type=Path, nargs="+", default=[None], help="source trees to compare")
    given = parser.parse_args()
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for run in (model_run(folder, given.items), recommender_run(folder, given.items)):
            files = sum(one.stat().st_size for one in run.rglob("*.safetensors"))
            for source in given.source:
                for workers in given.workers:
                    row = {"run": run.name, "tensors_mib": files >> 20, "source": str(source or "this")}
                    rows.append(row | mebibytes(run, workers, source))
                    print(json.dumps(rows[-1]), flush=True)
    print(
        json.dumps({"machine": describe_machine().model_dump(), "items": given.items, "rows": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
