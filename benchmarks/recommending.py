"""Measures recommendations from stored states, over HTTP and in process, and the loading of a dataset's users.

    python benchmarks/recommending.py --run runs/recommend --data data/mine [--users 200] [--seconds 10]

``palate store load`` fills the store of the run's server. One client then requests recommendations for stored users
with cached states; then it sends an event before each request, so that each state is updated. In process, the same
recommender lists items from states in memory; the ratio is the server's overhead. Client and server share the cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import palate
from palate.recommend.state_bytes import unpack_state
from palate.serve.engine import Users
from palate.serve.loading import load_users
from palate.serve.recommending import ServedRecommender
from palate.serve.store.store import UserStore
from palate.system.machine import describe_machine
from serving_parts.load import load, server


def milliseconds(work: Any, rounds: int) -> dict[str, float]:
    """Return median and 95th percentile of the wall time that ``work`` takes for the numbers from 0, in milliseconds.

    Also the median CPU time, which does not depend on other load on the machine.
    """
    times, computed = [], []
    for number in range(rounds):
        started, before = time.perf_counter(), time.process_time()
        work(number)
        times.append(1000 * (time.perf_counter() - started))
        computed.append(1000 * (time.process_time() - before))
    found = {f"p{share}_ms": round(float(np.percentile(times, share)), 2) for share in (50, 95)}
    return {**found, "processor_p50_ms": round(float(np.median(computed)), 2)}


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything."""
    data, store = palate.load_dataset(arguments.data), folder / "users.sqlite"
    started, before = time.monotonic(), time.process_time()
    opened = UserStore(store, data.info.repeats)
    loaded = load_users(data, opened)
    loading = {
        "events": loaded.new,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - before, 1),
    }
    served = ServedRecommender(arguments.run)
    users = Users(None, opened, served)
    some = data.histories(list(itertools.islice(data.user_ids, arguments.users)))
    states = [served.recommender.state(one) for one in some]
    for one in some:
        users.encoded_by(served, one.user_id)

    def from_the_store(number: int) -> None:
        kept, _ = users.encoded_by(served, some[number % len(some)].user_id)
        served.recommender.recommend([unpack_state(kept.state or b"")])

    rows: dict[str, Any] = {
        "from a state in memory": milliseconds(
            lambda number: served.recommender.recommend([states[number % len(states)]]), 1_000
        ),
        "from a state in the store": milliseconds(from_the_store, 1_000),
    }
    opened.close()
    items, value = data.item_ids, data.info.rating_values[-1]

    def ask(client: palate.Client, number: int) -> None:
        client.recommend(some[number % len(some)].user_id)

    def send_and_ask(client: palate.Client, number: int) -> None:
        event = {"item_id": items[number % len(items)], "rating": value}
        client.add_events(some[number % len(some)].user_id, [event])
        ask(client, number)

    with server(arguments.run, store, 1) as (url, _):
        load(url, 1, 2, ask)
        rows["over HTTP"] = load(url, 1, arguments.seconds, ask)
        rows["over HTTP, an event and its list"] = load(url, 1, arguments.seconds, send_and_ask)
    ratio = rows["over HTTP"]["p50_ms"] / rows["from a state in memory"]["p50_ms"]
    return {"items": len(items), "loading": loading, "rows": rows, "http_over_memory": round(ratio, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="run of a recommender")
    parser.add_argument("--data", type=Path, required=True, help="the run's dataset")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = measured(arguments, Path(folder))
    print(json.dumps({"machine": describe_machine().model_dump(), **found}, indent=2))


if __name__ == "__main__":
    main()
