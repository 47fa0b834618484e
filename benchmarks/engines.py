"""Measures answers per second with 64 clients: through an inference engine, palate's batcher, and a sequential loop.

    python benchmarks/engines.py RUN --data DATA --engine http://127.0.0.1:8001 [--workers 1 2] [--seconds 30]

RUN has a decoder-only backbone, whose weights the engine serves (``palate export RUN --weights backbone``). Start the
engine with as many threads as this process. All of them answer the same users of DATA with the same number of tokens;
their texts are compared. Clients, server and engine share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import palate
from palate.schema import History
from palate.words import counted
from serving_parts.load import naive, server
from serving_parts.raw import drive_apart


def fill(client: palate.Client, people: list[History]) -> None:
    """Upload the histories of users."""
    for one in people:
        columns = zip(one.item_ids, one.ratings, one.timestamps, strict=True)
        fields = ("item_id", "rating", "timestamp")
        client.add_events(one.user_id, [dict(zip(fields, row, strict=True)) for row in columns])


def main() -> None:
    """Measure them in turn, and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--engine", help="URL of the engine; none is measured if not given")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="numbers of palate's own workers")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    data, model = palate.load_dataset(arguments.data), palate.load_model(arguments.run, device="cpu")
    people = data.histories(data.user_ids[: arguments.users])
    own = model.generate(people)
    tokens = sum(len(model.tokenizer(text)["input_ids"]) for text in own) / len(own)
    print(f"{torch.get_num_threads()} threads, {tokens:.1f} tokens an answer")
    rows = {"a loop": naive(model, people, arguments.seconds / 2)}
    turns = [[("/answers", json.dumps({"questions": [{"user_id": one.user_id}]}))] for one in people]
    differ = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        ways: dict[str, tuple[int, tuple[str, ...]]] = {
            f"the batcher, {counted(workers, 'worker')}": (workers, ()) for workers in arguments.workers
        }
        if arguments.engine:
            ways["the engine"] = (1, ("--engine", arguments.engine))
        for way, (workers, more) in ways.items():
            store = folder / f"{way}.sqlite"
            with server(arguments.run, store, workers, arguments=more) as (url, _):
                with palate.Client(url) as client:
                    fill(client, people)
                    found = client.answers([{"user_id": one.user_id} for one in people[:32]])
                    differ[way] = sum(one["text"] != text for one, text in zip(found, own, strict=False))
                drive_apart(url, arguments.clients, 2, turns, folder)
                rows[way] = drive_apart(url, arguments.clients, arguments.seconds, turns, folder)
    base = rows["a loop"]["requests_a_second"]
    print(f"{'':<23} {'a second':>9} {'ratio':>6} {'p50 ms':>8} {'p99 ms':>8} {'failed':>7}")
    for way, row in rows.items():
        rate = row["requests_a_second"]
        times = f"{row['p50_ms']:>8.1f} {row['p99_ms']:>8.1f}"
        print(f"{way:<23} {rate:>9.1f} {rate / base:>6.2f} {times} {row['failed']:>7.0f}")
    print(f"answers of 32 users that differ from the loop's: {differ}")


if __name__ == "__main__":
    main()
