"""Prometheus metrics: counts and times, without user data."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of the folder in which worker processes share their metrics."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

requests = Counter("palate_requests", "Requests by route and status", ["method", "route", "status"])
seconds = Histogram("palate_request_seconds", "Time of a request", ["route"], buckets=_SECONDS)
under_way = Gauge("palate_requests_under_way", "Pending requests", multiprocess_mode="livesum")
batches = Histogram("palate_batch_questions", "Questions in a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
events = Counter("palate_events", "Received events by whether they were new to the store", ["kind"])
prompts = Counter("palate_user_prompts", "User prompts by origin: cached, updated or encoded", ["source"])
states = Counter(
    "palate_recommender_states", "Recommender states by origin: cached, updated or encoded", ["source"]
)

engine_requests = Counter("palate_engine_requests", "Requests to the engine by outcome", ["outcome"])
engine_seconds = Histogram("palate_engine_seconds", "Time of a request to the engine", buckets=_SECONDS)

upgrade_users = Gauge(
    "palate_upgrade_users",
    "Stored users by whether they are encoded for the new model",
    ["state"],
    multiprocess_mode="mostrecent",
)
upgrade_serving = Gauge(
    "palate_upgrade_serving",
    "1 if the new model answers, 0 if the old one does",
    multiprocess_mode="min",
)
upgrade_alarm = Gauge(
    "palate_upgrade_alarm", "1 if the upgrade to the new model failed or was refused", multiprocess_mode="max"
)
upgrade_changed = Gauge(
    "palate_upgrade_changed",
    "Fraction of changed answers on the panel",
    multiprocess_mode="mostrecent",
)
upgrade_f1 = Gauge("palate_upgrade_f1", "F1 on the panel by model", ["model"], multiprocess_mode="mostrecent")


# looking a label up takes longer than counting
counted_events = cache(events.labels)
counted_requests = cache(requests.labels)
timed_route = cache(seconds.labels)


def exposition() -> bytes:
    """Return all metrics in Prometheus text format, summed over the worker processes."""
    if FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    _forget_dead_workers(Path(os.environ[FOLDER]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """Delete the gauges of killed workers, whose pending requests would be counted for ever."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not _lives(int(pid)):
            with suppress(FileNotFoundError):  # deleted by another worker
                path.unlink()


def _lives(pid: int) -> bool:
    if sys.platform == "win32":  # os.kill ends the process there, whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
