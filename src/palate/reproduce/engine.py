"""Experiment engine: trains and measures the cells of a plan in concurrent processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from palate.config.load import differing_keys, dump_recipe, load_recipe
from palate.config.recipe import Recipe
from palate.errors import OutputError, PalateError
from palate.reproduce.cell import RECIPE, RESULT, RUN, CellResult, measure_cell, read_result, train_cell
from palate.reproduce.places import Places
from palate.system.files import write_text

LOG = "log.txt"
Result = TypeVar("Result")


class AnyCell(Protocol):
    """Protocol of a cell of any table."""

    @property
    def name(self) -> str:
        """Name of its folder."""

    @property
    def recipe(self) -> Recipe:
        """Recipe that is trained."""


@dataclass(frozen=True)
class Measurement(Generic[Result]):
    """Functions that measure a trained cell of a table, in a separate process, and read its result."""

    measure: Callable[..., None]
    """Called with the cell's folder and ``device``; writes the result."""
    read: Callable[[Path], Result | None]
    """Loads the result from the cell's folder; None if unfinished."""
    told: Callable[[Result], str]
    """Formats a result in one line."""


def of_the_paper() -> Measurement[CellResult]:
    """Return how cells of the paper's tables are measured."""
    return Measurement(measure_cell, read_result, _line)


def run_cells(
    cells: Sequence[AnyCell],
    out: Path,
    places: Places,
    tell: Callable[[str], None],
    counted: Callable[[int, int], None] = lambda done, total: None,
    measurement: Measurement[Any] | None = None,
) -> dict[str, Any]:
    """Train and measure all cells; finished ones are skipped, interrupted ones resumed.

    The other cells continue if one fails.

    Args:
        cells: The cells.
        out: Parent of the cells' folders.
        places: Number of concurrent cells, and their devices.
        tell: Called with a message for each finished cell.
        counted: Called with the number of finished cells and their total.
        measurement: Functions that measure the cells; those of the paper's tables if None.

    Returns:
        The results by cell, as ``measurement`` reads them.

    Raises:
        OutputError: A cell's folder contains another recipe; raised before any work.
        PalateError: Cells failed; raised at the end.
    """
    of = measurement or of_the_paper()
    for cell in cells:
        _open(cell, out / cell.name)
    results = {cell.name: found for cell in cells if (found := of.read(out / cell.name))}
    if results:
        tell(f"{len(results)} of {len(cells)} cells are already finished")
    counted(len(results), len(cells))
    failed: list[str] = []
    processes: list[BaseProcess] = []
    free: SimpleQueue[int] = SimpleQueue()
    for job in range(places.jobs):
        free.put(job)
    with ThreadPoolExecutor(places.jobs) as pool:
        waiting = [cell for cell in cells if cell.name not in results]
        running = {
            pool.submit(_run, out / cell.name, places, free, processes, of.measure): cell for cell in waiting
        }
        try:
            for done in as_completed(running):
                cell = running[done]
                result = of.read(out / cell.name) if done.result() == 0 else None
                if result is None:
                    failed.append(cell.name)
                    tell(f"{cell.name} FAILED: {_last_line(out / cell.name / LOG)}")
                    continue
                results[cell.name] = result
                tell(f"{len(results)}/{len(cells)} {cell.name}: {of.told(result)}")
                counted(len(results), len(cells))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise
    if failed:
        raise PalateError(
            f"{len(failed)} of {len(cells)} cells failed, the first {failed[0]}; see {out / failed[0] / LOG}, and "
            "run the same command again to resume: finished cells are skipped"
        )
    return results


def _open(cell: AnyCell, folder: Path) -> None:
    """Write the cell's recipe, or check that the existing one is equal."""
    path = folder / RECIPE
    begun = (folder / RUN).exists() or (folder / RESULT).exists()
    if not path.is_file() or not begun:
        write_text(path, dump_recipe(cell.recipe))
    elif keys := differing_keys(load_recipe(path), cell.recipe):
        raise OutputError(
            f"{folder} holds a cell of another recipe (differs in {', '.join(keys[:5])}); name a new folder"
        )


def _run(
    folder: Path,
    places: Places,
    free: SimpleQueue[int],
    started: list[BaseProcess],
    measure: Callable[..., None],
) -> int:
    """Train and measure a cell in separate processes; returns the exit status of the first that failed, or 0.

    The processes are appended to ``started``, so that another thread can terminate them.
    """
    job = free.get()
    try:
        for step, environments in (
            (train_cell, list(places.environments(job))),
            (measure, [places.alone(job)]),
        ):
            work = partial(step, device=places.device)
            several = [_process(work, folder, places.threads, one) for one in environments]
            if status := _run_together(several, started):
                return status
    finally:
        free.put(job)
    return 0


def _run_together(processes: Sequence[BaseProcess], started: list[BaseProcess]) -> int:
    """Run processes until all have ended or one has failed; returns its exit status, or 0."""
    try:
        for process in processes:
            process.start()
            started.append(process)
        left = list(processes)
        while left:
            ended = wait([process.sentinel for process in left])
            for process in [one for one in left if one.sentinel in ended]:
                process.join()
                left.remove(process)
                if process.exitcode:
                    return process.exitcode
        return 0
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def _process(
    step: Callable[[Path], None], folder: Path, threads: int, environment: Mapping[str, str]
) -> BaseProcess:
    """Create a process, forked if possible from a server process that has only loaded the libraries."""
    given = step, folder, threads, environment
    if "forkserver" in get_all_start_methods():
        context = get_context("forkserver")
        context.set_forkserver_preload(["palate.reproduce.cell"])
        return context.Process(target=_work, args=given)
    return get_context("spawn").Process(target=_work, args=given)


def _work(step: Callable[[Path], None], folder: Path, threads: int, environment: Mapping[str, str]) -> None:
    """Run the process of a cell, with its output in the cell's log."""
    os.environ.update(environment)  # before CUDA is initialised
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with (folder / LOG).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        step(folder)
    except PalateError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def _end_with_parent() -> None:
    """Terminate this process when its parent ends, because its result would be lost."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _line(result: CellResult) -> str:
    wrong = ", ".join(f"{one.scores.liked.f1.value:.3f} with {name}" for name, one in result.controls.items())
    return (
        f"F1 {result.scores.scores.liked.f1.value:.3f} ({wrong}), "
        f"{result.training.minutes:.1f} minutes, {result.answer.input_vectors:.0f} input vectors"
    )
