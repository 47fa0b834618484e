"""Measures events per second that a server commits: single ones, an event with an answer, and many per request.

    python benchmarks/writing.py [--clients 64] [--seconds 10] [--run RUN [--data DATA]] [--store postgresql://…]
        [--source OTHER/src …]

Each event is on disk when it is acknowledged. Servers of several source trees are measured in turn, three times each,
so that other load on the machine affects them equally. Clients are sockets of one lean process, because palate.Client
takes longer than the server. They share the machine's cores with the server; the server's CPU time per request is
reported beside the rate (an idle core provides a thousand milliseconds per second). The first row is a route that does
nothing: the framework's maximum.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
import torch

import palate
from answers import made_up_model
from palate.model.model import load_model
from serving_parts.load import server, summary
from serving_parts.raw import drive_apart

USERS, TOKENS, ROUNDS, BULK = 200, 20, 3, 5_000
TURNS = 4_000
"""Requests that are built beforehand; each is sent repeatedly, as a new event."""
Turn = list[tuple[str, str]]


def event(number: int, item_ids: Sequence[str]) -> Turn:
    """An event of a user."""
    body = json.dumps({"item_id": item_ids[number % len(item_ids)], "rating": 4})
    return [(f"/users/w{number % USERS}/events", body)]


def event_and_answer(number: int, item_ids: Sequence[str]) -> Turn:
    """An event of a user, and a question about the same user."""
    question = json.dumps({"questions": [{"user_id": f"w{number % USERS}"}]})
    return [*event(number, item_ids), ("/answers", question)]


def nothing(_number: int, _item_ids: Sequence[str]) -> Turn:
    """A request to a route that does nothing: the cost of HTTP and the framework alone."""
    return [("/health", "")]


def bulk(url: str, seconds: float, first: int, item_ids: Sequence[str]) -> dict[str, float]:
    """Send many events per request, one request after the other."""
    connection, times, failed = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60), [], 0
    started = time.monotonic()
    for number in itertools.count(first):
        if (began := time.monotonic()) - started > seconds:
            break
        rows = (
            {"user_id": f"b{number}-{at % 50}", "item_id": item_ids[at % len(item_ids)], "rating": 4}
            for at in range(BULK)
        )
        lines = "\n".join(map(json.dumps, rows))
        connection.request("POST", "/events", lines, {"Content-Type": "application/x-ndjson"})
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            times.append(1000 * (time.monotonic() - began))
        else:
            failed += 1
    connection.close()
    told = summary(times, time.monotonic() - started, failed)
    return {**told, "all": len(times) + failed}


def processor_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children, in seconds."""
    found = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        if int(place.name) == pid or int(fields[1]) == pid:
            found += int(fields[11]) + int(fields[12])
    return found / os.sysconf("SC_CLK_TCK")


@contextmanager
def servers(run: Path, folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, tuple[str, int]]]:
    """Start a server of each source tree; yields their addresses and processes."""
    with ExitStack() as stack:
        found = {}
        for number, source in enumerate(arguments.source):
            store = folder / f"users-{number}.sqlite"
            named = arguments.store and f"{arguments.store}{number}"
            data = () if arguments.data is None else ("--data", str(arguments.data))
            started = server(run, store, arguments.workers, source, named, data)
            found[str(source)] = stack.enter_context(started)
        yield found


def served_model(folder: Path, arguments: argparse.Namespace) -> tuple[Path, list[str]]:
    """Return the run to serve, or a made-up model, and the ids of its items."""
    if arguments.run is not None:
        return arguments.run, list(load_model(arguments.run, data=arguments.data).table.item_ids)
    torch.manual_seed(0)
    model = made_up_model("demo", np.random.default_rng(0))
    model.settings = model.settings.model_copy(update={"max_new_tokens": TOKENS})
    model.save_pretrained(folder / "model")
    return folder / "model", list(model.table.item_ids)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument(
        "--seconds", type=float, default=10, help="duration of each of three rounds, in seconds"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--store", help="PostgreSQL URL, to which the number of the source tree is appended: 0, 1, …"
    )
    parser.add_argument(
        "--source",
        type=Path,
        nargs="+",
        default=[Path(palate.__file__).parents[1]],
        help="source trees to compare",
    )
    parser.add_argument("--run", type=Path, help="trained run, or packaged, instead of random weights")
    parser.add_argument("--data", type=Path, help="dataset of the packaged model")
    arguments = parser.parse_args()
    kinds: dict[str, tuple[Callable[[int, Sequence[str]], Turn] | None, int]] = {
        f"{arguments.clients} clients, a route that does nothing": (nothing, 1),
        f"{arguments.clients} clients, an event": (event, 1),
        f"{arguments.clients} clients, an event and its answer": (event_and_answer, 1),
        f"1 client, {BULK:,} events": (None, BULK),
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        run, item_ids = served_model(folder, arguments)
        with servers(run, folder, arguments) as found:
            print(f"{'':<40} {'a second':>9} {'p50':>8} {'p99':>8} {'server ms':>10} {'failed':>7}")
            for kind, (turn, events) in kinds.items():
                measured: dict[str, list[list[float]]] = {source: [] for source in found}
                for round_, (source, (url, pid)) in itertools.product(range(ROUNDS), found.items()):
                    before = processor_seconds(pid)
                    if turn is None:
                        told = bulk(url, arguments.seconds, 10**6 * round_, item_ids)
                    else:
                        turns = [turn(number, item_ids) for number in range(TURNS)]
                        told = drive_apart(url, arguments.clients, arguments.seconds, turns, folder)
                    spent = 1000 * (processor_seconds(pid) - before) / told["all"] / events
                    rate = events * told["requests_a_second"]
                    measured[source].append([rate, told["p50_ms"], told["p99_ms"], spent, told["failed"]])
                for source, rows in measured.items():
                    rate, p50, p99, spent, failed = map(statistics.median, zip(*rows, strict=True))
                    figures = f"{rate:>9.1f} {p50:>8.1f} {p99:>8.1f} {spent:>10.3f} {failed:>7.0f}"
                    print(f"{kind:<40} {figures}  {source}", flush=True)


if __name__ == "__main__":
    main()
