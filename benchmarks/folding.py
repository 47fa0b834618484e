"""Measures folding of a synthetic event log: events per second, peak memory, and bytes per user state."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from palate.data.prepare import prepare
from palate.fold.job import FoldOptions, fold_log
from palate.model.model import load_model
from palate.system.machine import describe_machine
from palate.system.places import PACKAGED

CATEGORIES = [f"category {number}" for number in range(18)]
SCALE = np.arange(1, 6)


def main() -> None:
    """Write a log, fold it, add a day to it, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--folder", type=Path, help="folder for the files; a temporary one by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        print(json.dumps(measured(asked, Path(name)), indent=2))


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Fold a log of the requested size."""
    run = model_over(folder, asked.items)
    rng = np.random.default_rng(0)
    each = asked.events // asked.files
    files = [
        write_events(folder / f"log-{number:03d}.{asked.format}", rng, each, asked.users, asked.items)
        for number in range(asked.files)
    ]
    options = FoldOptions(engine=asked.engine, workers=asked.workers, blocks=asked.blocks)
    with Memory() as memory:
        begun, before = time.monotonic(), processor_seconds()
        manifest = fold_log(files, run, folder / "states", options)
        seconds, worked = time.monotonic() - begun, processor_seconds() - before
    day = write_events(
        folder / f"day.{asked.format}", rng, asked.users // 10, asked.users, asked.items, later=True
    )
    begun = time.monotonic()
    later = fold_log(
        [day], run, folder / "later", options_without_blocks(options), previous=folder / "states"
    )
    more = time.monotonic() - begun
    states, table = (size_of(folder / "states" / part) for part in ("states", "last-events"))
    begun = time.monotonic()
    shutil.copytree(folder / "states" / "states", folder / "copy")
    copied = time.monotonic() - begun
    events = each * asked.files
    return {
        "machine": describe_machine().model_dump(),
        "engine": asked.engine,
        "workers": asked.workers,
        "format": asked.format,
        "blocks": len(manifest.blocks),
        "log_bytes": sum(file.stat().st_size for file in files),
        "events": events,
        "events_that_count": manifest.events,
        "users": manifest.users,
        "seconds": round(seconds, 1),
        "events_a_second": round(events / seconds),
        "processor_seconds": round(worked, 1),
        "events_a_second_of_a_processor": round(events / worked),
        "load_average": [round(one, 1) for one in os.getloadavg()],
        "peak_gib_of_a_process": round(memory.largest / 2**30, 2),
        "peak_gib_of_all": round(memory.all / 2**30, 2),
        "bytes_a_user_states": round(states / manifest.users),
        "bytes_a_user_last_events": round(table / manifest.users),
        "copying_states_seconds": round(copied, 2),
        "day": {
            "events": asked.users // 10,
            "seconds": round(more, 1),
            "rebuilt": sum(one.rebuilt for one in later.blocks),
        },
    }


def options_without_blocks(options: FoldOptions) -> FoldOptions:
    return FoldOptions(engine=options.engine, workers=options.workers)


def model_over(folder: Path, items: int) -> Path:
    """Bind the packaged model to a small dataset over a catalogue of the given size."""
    rng = np.random.default_rng(1)
    numbers = np.arange(items)
    catalogue = pl.DataFrame(
        {
            "item_id": numbers,
            "title": [f"Item {number}" for number in numbers],
            "categories": [
                "|".join(CATEGORIES[place] for place in np.unique(rng.integers(len(CATEGORIES), size=3)))
                for _ in numbers
            ],
        }
    )
    catalogue.write_csv(folder / "items.csv")
    write_events(folder / "few.csv", rng, max(4 * items, 8_000), 400, items)
    data = prepare(
        [str(folder / "few.csv")], folder / "data", own=own_items(folder / "items.csv"), min_ratings=1
    )
    model = load_model(PACKAGED, data=data, device="cpu")
    model.save_pretrained(folder / "run")
    return folder / "run"


def own_items(path: Path) -> object:
    from palate.data.tabular.settings import OwnData

    return OwnData(items=str(path), separator="|")


def write_events(
    path: Path, rng: np.random.Generator, events: int, users: int, items: int, later: bool = False
) -> Path:
    """Write events of users of different activity with items of different popularity."""
    user = (rng.random(events) ** 1.5 * users).astype(np.int64)
    item = (rng.random(events) ** 2 * items).astype(np.int64)
    begin = 1_700_000_000 if later else 1_500_000_000
    table = pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "rating": rng.choice(SCALE, events, p=[0.06, 0.11, 0.26, 0.35, 0.22]),
            "timestamp": begin + rng.integers(100_000_000, size=events),
        }
    )
    if path.suffix == ".csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    return path


def processor_seconds() -> float:
    """Return the CPU time of this process and its ended children, in seconds."""
    return sum(os.times()[:4])


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


class Memory:
    """Peak memory of this process and its descendants (proportional set size), sampled twice a second."""

    def __init__(self) -> None:
        self.largest = self.all = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            each = [held_by(process) for process in tree(Path("/proc/self").resolve().name)]
            self.largest, self.all = max(self.largest, *each), max(self.all, sum(each))


def tree(process: str) -> list[str]:
    """List a process and its descendants."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # the process has ended
            continue
        for child in children:
            found += tree(child)
    return found


def held_by(process: str) -> int:
    """Return the proportional set size of a process in bytes: shared pages are divided among their processes."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    main()
