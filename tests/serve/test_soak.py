"""Ten minutes of well-behaved and hostile traffic: responses, and the server's resources.

Slices of time with the hostile clients and without them alternate, so that what else the machine does weighs on both
alike. Good clients, hostile ones and the one that asks ``/health`` run in processes of their own: none waits for
another's interpreter. ``PALATE_SOAK_SECONDS`` sets another length, ``PALATE_SOAK_REPORT`` a file for the figures.
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from postgres import postgres  # noqa: F401 - a fixture
from visitors import Crowd, Good, Health, Hostile

from serving import started

SECONDS = float(os.environ.get("PALATE_SOAK_SECONDS", "600"))
SLICES = 20
SETTLING = min(5.0, SECONDS / SLICES / 3)
"""Seconds of a slice that are not compared: what the one before has begun is still under way."""
WARM = SLICES // 2
"""The slice after which memory is compared with that after the last one without hostile clients, like this one: bodies
that arrive are no growth. By then all threads, connections and buffers of the server have been made, as each kind of
request has come many times over; what grows on has no bound."""
GOOD, HOSTILE = 40, 24


def memory(server):
    """Megabytes of the server's processes."""
    group, pages = server.process.pid, 0
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if os.getpgid(int(place.name)) == group:
                pages += int((place / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def alternate(server, hostile):
    """Let hostile clients work in every other slice; gives the slices' starts and the memory after each."""
    starts, megabytes = [], []
    for number in range(SLICES):
        hostile.tell("go" if number % 2 else "rest")
        starts.append(time.monotonic())
        time.sleep(SECONDS / SLICES)
        megabytes.append(memory(server))
    return starts, megabytes


def compared(visitors, starts):
    """Seconds of requests that began without hostile clients, and beside them."""
    found = [], []
    for asked, _ in visitors:
        for began, seconds, _ in asked:
            number = int(np.searchsorted(starts, began)) - 1
            if number >= 0 and began - starts[number] >= SETTLING:
                found[number % 2].append(seconds)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_good_clients_among_hostile_ones(run, tmp_path, request, kind, workers):
    store = tmp_path / "users.sqlite"
    if kind == "postgresql":
        store = request.getfixturevalue("postgres").new_database(f"soak{workers}")
    with started(run, tmp_path, "--store", store, "--workers", workers) as server:
        crowds = [Crowd(*one) for one in ((Good, server.url, GOOD), (Health, server.url, 1))]
        hostile = Crowd(Hostile, server.url, HOSTILE)
        for one in crowds:
            one.tell("go")
        starts, megabytes = alternate(server, hostile)
        refused = hostile.end()
        good, health = (one.end() for one in crowds)
        kept = []
        for number in range(GOOD):
            found = httpx.get(f"{server.url}/users/good-{number}/prompt", timeout=60)
            assert found.status_code == 200
            kept.append(int(found.headers["etag"].strip('"')))
        log = len(server.said)
    alone, beside = (float(np.quantile(some, 0.99)) for some in compared(good, starts))
    medians = [round(float(np.median(some)), 3) for some in compared(good, starts)]
    calmly, slowest = map(max, compared(health, starts))
    statuses = [status for crowd in (good, refused, health) for asked, _ in crowd for *_, status in asked]
    figures = {
        "store": kind,
        "workers": workers,
        "seconds": SECONDS,
        "good requests": sum(len(asked) for asked, _ in good),
        "hostile requests": sum(len(asked) for asked, _ in refused),
        "median without and beside hostile, s": medians,
        "p99 without and beside hostile, s": [round(alone, 3), round(beside, 3)],
        "slowest health without and beside hostile, s": [round(calmly, 3), round(slowest, 3)],
        "megabytes after each slice": [round(one) for one in megabytes],
        "lost": sum(sent for _, sent in good) - sum(kept),
        "log, bytes": log,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
    }
    if report := os.environ.get("PALATE_SOAK_REPORT"):
        with Path(report).open("a") as file:
            file.write(json.dumps(figures) + "\n")
    assert kept == [sent for _, sent in good], "an acknowledged event is not kept"
    assert {status for status in statuses if status >= 500} <= {503}
    assert {status for asked, _ in health for *_, status in asked} == {200}
    assert log < 10e6
    assert megabytes[-2] < 1.1 * megabytes[WARM]
    assert slowest < max(
        0.5, 2 * calmly
    )  # a machine that is busy with other work is slow without hostile ones, too
    assert beside < 3 * alone
