"""Concurrent trainings in separate processes; if one fails, the others are stopped.

A process reads its recipe and folder from a line on its standard input, which stays open while its parent lives: at
the end of the input the process exits, so that none is left behind. A run that was stopped this way resumes from its
last checkpoint like any other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from palate.config.recipe import Recipe
from palate.errors import PalateError

REFUSED = 2
"""Exit status after a :class:`PalateError`, whose message is the last line of the output."""
STOPPED = 130

_COMMAND = (sys.executable, "-m", "palate.training.side_by_side")
"""Command that starts a training process."""
_Lines: TypeAlias = "SimpleQueue[tuple[str, str | None]]"
"""Output lines by name of the training; None at the end of an output."""


def train_side_by_side(runs: Mapping[str, tuple[Recipe, Path]], tell: Callable[[str], None]) -> None:
    """Train several runs concurrently.

    With fewer processors than runs, the trainings take longer but give the same results.

    Args:
        runs: Recipe and output folder of each run, by name.
        tell: Receives the output lines, each after the name of its run.

    Raises:
        PalateError: A training fails; the others are stopped first.
    """
    lines: _Lines = SimpleQueue()
    width = max(map(len, runs), default=0)
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, (recipe, out) in runs.items():
            processes[name] = _start(recipe, out)
            threading.Thread(target=_listen, args=(name, processes[name], lines), daemon=True).start()
        last = dict.fromkeys(runs, "")
        running = set(runs)
        while running:
            name, line = lines.get()
            if line is not None:
                last[name] = line
                tell(f"{name:<{width}}  {line}")
                continue
            running.remove(name)
            if status := processes[name].wait():
                raise PalateError(_failed(name, runs[name][1], status, last[name]))
    finally:
        for process in processes.values():
            _stop(process)


def _start(recipe: Recipe, out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"recipe": recipe.model_dump(mode="json"), "out": str(out)}) + "\n")
    process.stdin.flush()
    return process


def _listen(name: str, process: subprocess.Popen[str], lines: _Lines) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put((name, line.rstrip("\n")))
    lines.put((name, None))


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failed(name: str, out: Path, status: int, last: str) -> str:
    if status == REFUSED:
        return f"training {name} failed: {last}"
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
    return (
        f"training {name} {ended} ({last[:200] or 'no output'}); run it again, and {out} resumes from its last "
        "checkpoint; where memory ran out, free some first"
    )


def _work() -> int:
    """Run the training of a child process."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal interrupts all processes: the parent decides how to stop
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    from palate.training.train import train_run

    try:
        train_run(Recipe.model_validate(given["recipe"]), Path(given["out"]), report=_say)
    except PalateError as error:
        _say(" ".join(str(error).split()))
        return REFUSED
    return 0


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os._exit(STOPPED)  # like SIGKILL: checkpoints are written atomically


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(_work())
