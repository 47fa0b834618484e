"""How many events a second a server commits: single ones of many clients, an event and its answer, and many at once.

    python benchmarks/writing.py [--clients 64] [--seconds 10] [--store postgresql://…] [--source OTHER/src …]

Each event is on disk when it is acknowledged. Servers of several source trees are measured in turn, three times each,
so that a busy machine slows them alike. Clients are Python's own http.client on connections that stay open, as
palate.Client takes longer than the server. They share the machine's cores with the server, whose own processor time
for a request stands beside the rate: a core that has nothing else to do serves a thousand milliseconds of it a second.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
import torch

import palate
from answers import ITEMS, made_up_model
from serving_parts.load import at_once, server, summary

USERS, TOKENS, ROUNDS, BULK = 200, 20, 3, 5_000
JSON, LINES = "application/json", "application/x-ndjson"
Ask = Callable[[http.client.HTTPConnection, int], bool]


def ask(connection: http.client.HTTPConnection, path: str, body: str, kind: str = JSON) -> bool:
    """Post a body; returns whether it was taken."""
    connection.request("POST", path, body, {"Content-Type": kind})
    response = connection.getresponse()
    response.read()
    return response.status == 200


def event(connection: http.client.HTTPConnection, number: int) -> bool:
    sent = {"item_id": str(number % ITEMS), "rating": 4}
    return ask(connection, f"/users/w{number % USERS}/events", json.dumps(sent))


def event_and_answer(connection: http.client.HTTPConnection, number: int) -> bool:
    question = json.dumps({"questions": [{"user_id": f"w{number % USERS}"}]})
    return event(connection, number) and ask(connection, "/answers", question)


def bulk(connection: http.client.HTTPConnection, number: int) -> bool:
    rows = (
        {"user_id": f"b{number}-{at % 50}", "item_id": str(at % ITEMS), "rating": 4} for at in range(BULK)
    )
    return ask(connection, "/events", "\n".join(map(json.dumps, rows)), LINES)


def processor_seconds(pid: int) -> float:
    """Processor time of a process and its children."""
    found = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(place.name) == pid or int(fields[1]) == pid:
            found += int(fields[11]) + int(fields[12])
    return found / os.sysconf("SC_CLK_TCK")


def load(url: str, clients: int, seconds: float, one: Ask, first: int) -> dict[str, float]:
    """Let clients ask, one request after the other each; requests a second and their times."""
    numbers, times, failed = itertools.count(first), [], []
    end = time.monotonic() + seconds

    def work() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        while (began := time.monotonic()) < end:
            if one(connection, next(numbers)):
                times.append(1000 * (time.monotonic() - began))
            else:
                failed.append(began)
        connection.close()

    seconds = at_once(work, clients)
    return {**summary(times, seconds, len(failed)), "all": len(times) + len(failed)}


@contextmanager
def servers(run: Path, folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, tuple[str, int]]]:
    """A server of each source tree: its address and its process."""
    with ExitStack() as stack:
        found = {}
        for number, source in enumerate(arguments.source):
            store = folder / f"users-{number}.sqlite"
            named = arguments.store and f"{arguments.store}{number}"
            found[str(source)] = stack.enter_context(server(run, store, arguments.workers, source, named))
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10, help="of each of three rounds")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--store", help="PostgreSQL URL, to which the number of the source tree is added: 0, 1, …"
    )
    parser.add_argument(
        "--source",
        type=Path,
        nargs="+",
        default=[Path(palate.__file__).parents[1]],
        help="source trees to compare",
    )
    arguments = parser.parse_args()
    torch.manual_seed(0)
    kinds: dict[str, tuple[Ask, int, int]] = {
        f"{arguments.clients} clients, an event": (event, arguments.clients, 1),
        f"{arguments.clients} clients, an event and its answer": (event_and_answer, arguments.clients, 1),
        f"1 client, {BULK:,} events": (bulk, 1, BULK),
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = made_up_model("demo", np.random.default_rng(0))
        model.settings = model.settings.model_copy(update={"max_new_tokens": TOKENS})
        model.save_pretrained(folder / "model")
        with servers(folder / "model", folder, arguments) as found:
            print(f"{'':<40} {'a second':>9} {'p50':>8} {'p99':>8} {'server ms':>10} {'failed':>7}")
            for kind, (one, clients, events) in kinds.items():
                measured: dict[str, list[list[float]]] = {source: [] for source in found}
                for round_, (source, (url, pid)) in itertools.product(range(ROUNDS), found.items()):
                    before = processor_seconds(pid)
                    told = load(url, clients, arguments.seconds, one, 10**6 * round_)
                    spent = 1000 * (processor_seconds(pid) - before) / told["all"] / events
                    rate = events * told["requests_a_second"]
                    measured[source].append([rate, told["p50_ms"], told["p99_ms"], spent, told["failed"]])
                for source, rows in measured.items():
                    rate, p50, p99, spent, failed = map(statistics.median, zip(*rows, strict=True))
                    figures = f"{rate:>9.1f} {p50:>8.1f} {p99:>8.1f} {spent:>10.3f} {failed:>7.0f}"
                    print(f"{kind:<40} {figures}  {source}", flush=True)


if __name__ == "__main__":
    main()
