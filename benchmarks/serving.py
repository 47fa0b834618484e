"""Load test of a server, relative to the same model in a sequential loop.

    python benchmarks/serving.py [--run runs/demo/main] [--clients 16] [--seconds 20] [--out serving.json]

Clients on a loopback address each send the next question when they have an answer, about stored users with 50 events;
then they send events, each of which is on disk when it is acknowledged. The naive loop calls
``model.generate([history])`` for the same users in this process, without HTTP and store. Weights and histories are
random unless --run names a trained model. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import palate
from answers import made_up_history, made_up_model
from palate.model.model import load_model
from palate.schema import History
from palate.system.machine import describe_machine
from serving_parts.load import load, naive, server

USERS, EVENTS, TOKENS, SAMPLES = 200, 50, 20, 10


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    found = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid), "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return round(sum(map(int, found.stdout.split())) / 1024, 1)


@contextmanager
def memory_over_time(pid: int, seconds: float) -> Iterator[list[float]]:
    """Sample a process's resident memory at the start, ``SAMPLES`` times during ``seconds`` and at the end."""
    found, done = [memory_mib(pid)], threading.Event()

    def sample() -> None:
        while not done.wait(seconds / SAMPLES):
            found.append(memory_mib(pid))

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield found
    finally:
        done.set()
        sampling.join()
    found.append(memory_mib(pid))


def measured(run: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure everything, and compare the answers."""
    model, rng = load_model(run), np.random.default_rng(0)
    histories = [made_up_history(model.table, EVENTS, rng) for _ in range(USERS)]
    last = [
        dict(zip(one.item_ids, zip(one.ratings, one.timestamps, strict=True), strict=True))
        for one in histories
    ]
    histories = [  # a store keeps an item's last rating
        History(f"u{row}", list(one), [pair[0] for pair in one.values()], [pair[1] for pair in one.values()])
        for row, one in enumerate(last)
    ]
    shorter = max(arguments.seconds / 5, 10)
    rows: dict[str, dict[str, float]] = {"naive loop": naive(model, histories, shorter)}
    with server(run, folder / "users.sqlite", arguments.workers) as (url, pid):
        with palate.Client(url) as client:
            for one in histories:
                columns = zip(one.item_ids, one.ratings, one.timestamps, strict=True)
                fields = ("item_id", "rating", "timestamp")
                client.add_events(one.user_id, [dict(zip(fields, row, strict=True)) for row in columns])
            answers = client.answers([{"user_id": one.user_id} for one in histories[:32]])
            differ = sum(a["text"] != b for a, b in zip(answers, model.generate(histories[:32]), strict=True))
        items, ratings = model.table.item_ids, model.table.rating_values

        def ask(client: palate.Client, number: int) -> None:
            client.answer(f"u{number % USERS}")

        def send(client: palate.Client, number: int) -> None:
            event = {"item_id": items[number % len(items)], "rating": float(ratings[number % len(ratings)])}
            client.add_events(f"w{number % USERS}", [event])

        def both(client: palate.Client, number: int) -> None:
            send(client, number)
            client.answer(f"w{number % USERS}")

        load(url, arguments.clients, 2, ask)
        with memory_over_time(pid, arguments.seconds) as memory:
            rows[f"{arguments.clients} clients, answers"] = load(
                url, arguments.clients, arguments.seconds, ask
            )
        rows["1 client, answers"] = load(url, 1, shorter, ask)
        rows[f"{arguments.clients} clients, events"] = load(url, arguments.clients, shorter, send)
        rows[f"{arguments.clients} clients, an event and its answer"] = load(
            url, arguments.clients, shorter, both
        )
    return {"rows": rows, "answers_that_differ": differ, "memory_mib": memory}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="trained run or model, instead of random weights")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--seconds",
        type=float,
        default=20,
        help="duration of the load test in seconds; the other measurements take a fifth",
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        run = arguments.run
        if run is None:
            run = Path(folder) / "model"
            model = made_up_model("demo", np.random.default_rng(0))
            model.settings = model.settings.model_copy(update={"max_new_tokens": TOKENS})
            model.save_pretrained(run)
        found = measured(run, Path(folder), arguments)
    rows = found["rows"]
    assert isinstance(rows, dict)
    base = rows["naive loop"]["requests_a_second"]
    print(f"{'':<42} {'a second':>9} {'ratio':>6} {'p50':>8} {'p95':>8} {'p99':>8} {'failed':>7}")
    for name, row in rows.items():
        times = " ".join(f"{row[key]:>8.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        rate = row["requests_a_second"]
        print(f"{name:<42} {rate:>9.1f} {rate / base:>6.2f} {times} {row['failed']:>7.0f}")
    print(f"answers of 32 users that differ from the loop's: {found['answers_that_differ']}")
    print(f"server's memory while it answered, from start to end: {found['memory_mib']} MiB")
    if arguments.out:
        machine = describe_machine().model_dump(mode="json")
        settings = {
            "clients": arguments.clients,
            "workers": arguments.workers,
            "threads": torch.get_num_threads(),
        }
        arguments.out.write_text(json.dumps({"machine": machine, **settings, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
