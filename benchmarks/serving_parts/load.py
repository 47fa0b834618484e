"""A palate server in a separate process, and clients that load it."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import palate
from palate.model.model import PersonalizedModel
from palate.schema import History


@contextmanager
def server(
    run: Path,
    store: Path,
    workers: int,
    source: Path | None = None,
    url: str | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[tuple[str, int]]:
    """Start a server and yield address and process once it is ready; optionally of another source tree or store."""
    command = [sys.executable, "-m", "palate", "serve", str(run), "--port", "0"]
    command += ["--store", url or str(store), "--workers", str(workers), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(source or Path(palate.__file__).parents[1])}
    with store.with_suffix(".log").open("w+") as log:
        process = subprocess.Popen(command, stderr=log, env=environment)
        try:
            while not (found := re.search(r"serving on (http://\S+)", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.2)
            while not palate.Client(found[1]).ready():
                time.sleep(0.2)
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait()


def load(
    url: str, clients: int, seconds: float, ask: Callable[[palate.Client, int], None]
) -> dict[str, float]:
    """Let ``clients`` send requests one after the other each; return requests per second and latencies."""
    numbers, times, failed = itertools.count(), [], []
    end = time.monotonic() + seconds

    def work() -> None:
        with palate.Client(url, tries=1) as client:
            while (started := time.monotonic()) < end:
                try:
                    ask(client, next(numbers))
                except palate.PalateError as error:  # noqa: PERF203 - other requests may succeed
                    failed.append(str(error))
                else:
                    times.append(1000 * (time.monotonic() - started))

    return summary(times, at_once(work, clients), len(failed))


def at_once(work: Callable[[], None], clients: int) -> float:
    """Run ``work`` in so many threads; return the seconds until the last one ends."""
    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def summary(times: list[float], seconds: float, failed: int = 0) -> dict[str, float]:
    """Return requests per second and latency percentiles in milliseconds."""
    percentiles = {f"p{share}_ms": round(float(np.percentile(times, share)), 1) for share in (50, 95, 99)}
    return {"requests_a_second": round(len(times) / seconds, 1), **percentiles, "failed": failed}


def naive(model: PersonalizedModel, histories: list[History], seconds: float) -> dict[str, float]:
    """Call ``generate`` for one user after the other."""
    times, started = [], time.monotonic()
    for history in itertools.cycle(histories):
        before = time.monotonic()
        if before - started > seconds:
            break
        model.generate([history])
        times.append(1000 * (time.monotonic() - before))
    return summary(times, time.monotonic() - started)
