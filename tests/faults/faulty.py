"""Fault injection: runs commands that are killed, or get a disk-full error, at a given file operation.

Each command runs in a process that is forked from one with all imports done, so that a hundred of them are cheap.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rights import without_rights

KILLED = -signal.SIGKILL
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}
TAKES_ROOM = {"open", "os.mkdir"}
PRELOADED = [
    *(
        "palate.cli.app",
        "palate.training.train",
        "palate.export.write",
        "palate.evaluation.compare",
        "palate.model.answer",
        "palate.export.read",
    ),
    *(
        "palate.data.prepare",
        "palate.data.tabular.read",
        "palate.demo.run",
        "palate.reproduce.engine",
        "palate.inspection.view",
    ),
    *("sentence_transformers", "palate.evaluation.predictors.references", "palate.evaluation.questions"),
]


@dataclass(frozen=True)
class Fault:
    """A fault at file operation ``at`` below ``under``, counted from 1; 0 only counts operations."""

    under: Path
    at: int = 0
    error: int = 0
    """Number of the error that this operation and those after it fail with; 0 for signals in its place."""
    signals: tuple[int, ...] = (signal.SIGKILL,)
    """What the process is sent before this operation and those after it, one each."""


@dataclass(frozen=True)
class Setting:
    """Conditions under which a command runs."""

    fault: Fault | None = None
    largest: int | None = None
    """Size in bytes that no file can exceed, as on a disk that is full."""
    umask: int | None = None
    bound: bool = False
    """Whether the modes of files bind it, even if root runs it."""


@dataclass
class Ended:
    """Result of a command."""

    code: int
    output: str
    operations: int = 0

    @property
    def said(self) -> str:
        """Last line of the output."""
        lines = self.output.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def in_order(self) -> bool:
        """Whether the command succeeded, or failed with a single line."""
        refused = self.code == 2 and self.said.startswith("palate: ")
        return "Traceback" not in self.output and (self.code == 0 or refused)


@dataclass
class Commands:
    """Runs palate commands; their output and operation counts go to files in ``folder``."""

    folder: Path
    started: int = 0
    processes: Any = field(default_factory=lambda: multiprocessing.get_context("forkserver"))

    def __post_init__(self) -> None:
        self.processes.set_forkserver_preload(PRELOADED)

    def run(self, *arguments: object, setting: Setting = Setting()) -> Ended:
        """Run a command to its end."""
        return self.ended(self.start(*arguments, setting=setting))

    def start(self, *arguments: object, setting: Setting = Setting()) -> Any:
        """Start a command without waiting for it."""
        self.started += 1
        log = self.folder / f"{self.started}.log"
        log.touch()
        given = [str(one) for one in arguments]
        process = self.processes.Process(target=_run_command, args=(given, log, setting))
        process.log = log
        process.start()
        return process

    def ended(self, process: Any) -> Ended:
        """Wait for a started command and return its result."""
        process.join()
        count = process.log.with_suffix(".count")
        output = process.log.read_text(errors="replace")
        return Ended(process.exitcode, output, int(count.read_text()) if count.exists() else 0)

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Run a function in such a process."""
        process = self.processes.Process(target=function, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == 0


def _run_command(arguments: list[str], log: Path, setting: Setting) -> None:
    import torch

    os.environ |= {"POLARS_MAX_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(1)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from palate.items import encoder

    encoder.CHUNK = 16  # many chunk files of few texts
    if setting.umask is not None:
        os.umask(setting.umask)
    if setting.largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (setting.largest, setting.largest))
    listener = None if setting.fault is None else _Listener(setting.fault)
    if listener is not None:
        sys.addaudithook(listener)
    sys.argv = ["palate", *arguments]
    from palate.cli.app import main

    try:
        with without_rights() if setting.bound else nullcontext():
            main()
    finally:
        if listener is not None and not listener.fault.at:
            log.with_suffix(".count").write_text(str(listener.done))


class _Listener:
    """Audit hook that sees each file operation before it happens."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.under, self.done = fault, str(fault.under.resolve()), 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        fault = self.fault
        if event not in CHANGES and not (event == "open" and _writes(arguments)):
            return
        if fault.error == errno.ENOSPC and event not in TAKES_ROOM:
            return
        path = arguments[0]
        if not isinstance(path, (str, os.PathLike)) or not str(Path(path).absolute()).startswith(self.under):
            return
        self.done += 1
        if not fault.at or self.done < fault.at:
            return
        if not fault.error:
            for number in fault.signals[self.done - fault.at :][:1]:
                os.kill(os.getpid(), number)
            return
        raise OSError(fault.error, os.strerror(fault.error), str(path))


def _writes(arguments: tuple[Any, ...]) -> bool:
    _path, _mode, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
