"""Shared context of all parts: device, data, time limits and results."""

from __future__ import annotations

import gc
import json
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from palate.config.recipe import TaskSettings
from palate.data.dataset import Dataset
from palate.items.encoder import EncoderIdentity
from palate.items.table import FIELDS, ItemTable
from palate.tasks import load_task
from palate.tasks.category_preference import CategoryPreference

Found: TypeAlias = dict[str, Any]
SEED = 0
GIB = 2**30


class OutOfTime(Exception):
    """A time limit has expired."""

    def __init__(self, deadline: float, seconds: float) -> None:
        super().__init__(f"the limit of {seconds:.0f} s is over")
        self.deadline = deadline


_limits: list[tuple[float, float]] = []
"""Deadline and length of each active limit, outermost first."""


def _ring(*_: object) -> None:
    now = time.monotonic()
    for deadline, seconds in _limits:  # the outermost expired one
        if deadline <= now:
            raise OutOfTime(deadline, seconds)


def _arm() -> None:
    nearest = min((deadline for deadline, _ in _limits), default=None)
    wait = 0.0 if nearest is None else max(nearest - time.monotonic(), 0.001)
    signal.setitimer(signal.ITIMER_REAL, wait)


@contextmanager
def limit(seconds: float) -> Iterator[float]:
    """Raise :class:`OutOfTime` in the main thread after some seconds; yields the deadline. Limits can be nested."""
    signal.signal(signal.SIGALRM, _ring)
    deadline = time.monotonic() + seconds
    _limits.append((deadline, seconds))
    _arm()
    try:
        yield deadline
    finally:
        _limits.remove((deadline, seconds))
        _arm()


def free_memory() -> None:
    """Free cached GPU memory before the next measurement."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@dataclass
class Bench:
    """One run of the benchmark."""

    dataset: Dataset
    out: Path
    work: Path
    """Folder for temporary files."""
    device: torch.device
    smoke: bool = False
    """Whether to run a smoke test, with tiny sizes and few steps."""
    vectors: Path | None = None
    """Item vectors written by :meth:`ItemTable.save`; random by default."""
    tokenizer: Path | None = None
    """Folder of the decoder's tokenizer; trained on the data by default."""
    train_seconds: float = 45.0
    steps: dict[str, int] = field(default_factory=dict)
    """Steps of the compared trainings by name; by default chosen by their speed."""
    results: Found = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def task(self) -> CategoryPreference:
        """The task, with the data's label rule."""
        return load_task(TaskSettings(), self.dataset.info)

    def save(self) -> None:
        """Write all results so far, atomically."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        part = self.out.with_name(self.out.name + ".part")
        part.write_text(json.dumps(self.results, indent=2, default=str) + "\n", encoding="utf-8")
        part.replace(self.out)

    @contextmanager
    def row(self, found: Found, name: str, seconds: float) -> Iterator[Found]:
        """Measure one thing within its time limit; a failure is recorded as ``error``, and the rest continues.

        Raises :class:`OutOfTime` when the time of the whole part expires.
        """
        row: Found = {}
        found[name] = row
        print(f"  {name} … ({time.monotonic() - self.started:.0f} s)", flush=True)
        start, mine = time.monotonic(), -1.0
        try:
            with limit(seconds * (10 if self.smoke else 1)) as mine:
                yield row
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            if isinstance(error, OutOfTime) and error.deadline != mine:
                raise
        finally:
            row["spent_s"] = round(time.monotonic() - start, 2)
            free_memory()
            self.save()

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self.gpu:
            torch.cuda.synchronize()

    def table(self, size: int) -> ItemTable:
        """Load the dataset's item vectors, or draw random ones, [I, F, size]."""
        if self.vectors is not None and size == 0:
            table = ItemTable.load(self.vectors)
            if table.item_ids != self.dataset.item_ids:
                raise SystemExit(f"{self.vectors}: the vectors of other items than those of --data")
            return table
        return random_table(self.dataset, size or 32)


def random_table(dataset: Dataset, size: int) -> ItemTable:
    """Draw item and rating vectors of length 1 in random directions, which cost the same as real ones."""
    rng = np.random.default_rng(SEED)

    def directions(*shape: int) -> np.ndarray:
        drawn = rng.normal(size=shape)
        return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)

    items, fields, values = len(dataset.item_ids), len(FIELDS), dataset.rating_values
    return ItemTable(
        dataset.item_ids,
        directions(items, fields, size),
        np.ones((items, fields), dtype=np.bool_),
        values,
        directions(len(values), size),
        EncoderIdentity("random", None, "0" * 64, 1),
    )
