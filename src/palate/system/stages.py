"""Time and memory of the stages of a long job, summed over resumed processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate.system.files import write_json
from palate.system.machine import peak_memory_gib
from palate.system.records import read_record


class Stages:
    """A JSON file of each stage's wall time, CPU time and peak memory, summed over resumed processes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._spent: dict[str, dict[str, float]] = _read(file) if file.is_file() else {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the cost of the block to a stage, also if it is interrupted."""
        start, worked = time.monotonic(), _processor_seconds()
        try:
            yield
        finally:
            before = self._spent.get(name, {})
            self._spent[name] = {
                "seconds": round(before.get("seconds", 0.0) + time.monotonic() - start, 1),
                "processor_seconds": round(
                    before.get("processor_seconds", 0.0) + _processor_seconds() - worked, 1
                ),
                "peak_memory_gib": max(before.get("peak_memory_gib", 0.0), peak_memory_gib()),
            }
            write_json(self._file, self._spent)

    def seconds(self) -> dict[str, float]:
        """Return the wall time of each stage, in seconds."""
        return {name: spent["seconds"] for name, spent in self._spent.items()}

    def processor_seconds(self) -> dict[str, float]:
        """Return the CPU time of each stage in seconds, which depends little on the machine's load."""
        return {name: spent.get("processor_seconds", 0.0) for name, spent in self._spent.items()}

    def peak_memory_gib(self) -> float:
        """Return the highest peak memory of a process over all stages, in GiB."""
        return max(spent["peak_memory_gib"] for spent in self._spent.values())


def _read(file: Path) -> dict[str, dict[str, float]]:
    again = "remove it to start the accounting anew"
    return read_record(dict[str, dict[str, float]], file, "the file is missing", again)


def _processor_seconds() -> float:
    """Return the CPU seconds of this process and its ended children."""
    return sum(os.times()[:4])
