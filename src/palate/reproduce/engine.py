"""Experiment engine: trains and measures the cells of a plan in concurrent processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from palate.config.load import differing_keys, dump_recipe, load_recipe
from palate.errors import OutputError, PalateError
from palate.reproduce.cell import RECIPE, RESULT, RUN, STEPS, CellResult, read_result
from palate.reproduce.plan import Cell
from palate.system.files import write_text

LOG = "log.txt"


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    jobs: int,
    tell: Callable[[str], None],
    counted: Callable[[int, int], None] = lambda done, total: None,
    device: str = "auto",
) -> dict[str, CellResult]:
    """Train and measure all cells; finished ones are skipped, interrupted ones resumed.

    ``jobs`` cells run at a time and share the machine's threads evenly, all on one ``device``; ``tell`` hears of
    each, ``counted`` how many of all are done. A cell that fails does not keep the others from being trained. Raises
    :class:`OutputError` where a cell's folder holds another recipe, before any work, and :class:`PalateError` at the
    end when cells failed.
    """
    for cell in cells:
        _open(cell, out / cell.name)
    results = {cell.name: found for cell in cells if (found := read_result(out / cell.name))}
    if results:
        tell(f"{len(results)} of {len(cells)} cells are finished already")
    counted(len(results), len(cells))
    failed: list[str] = []
    processes: list[BaseProcess] = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [cell for cell in cells if cell.name not in results]
        running = {pool.submit(_run, out / cell.name, jobs, device, processes): cell for cell in waiting}
        try:
            for done in as_completed(running):
                cell = running[done]
                result = read_result(out / cell.name) if done.result() == 0 else None
                if result is None:
                    failed.append(cell.name)
                    tell(f"{cell.name} FAILED: {_last_line(out / cell.name / LOG)}")
                    continue
                results[cell.name] = result
                tell(_line(result, f"{len(results)}/{len(cells)}"))
                counted(len(results), len(cells))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise
    if failed:
        raise PalateError(
            f"{len(failed)} of {len(cells)} cells failed, the first {failed[0]}; see {out / failed[0] / LOG}, and "
            "start the same command again: what is finished is not trained again"
        )
    return results


def _open(cell: Cell, folder: Path) -> None:
    """Write the cell's recipe, or check that it is the one that lies there."""
    path = folder / RECIPE
    begun = (folder / RUN).exists() or (folder / RESULT).exists()
    if not path.is_file() or not begun:
        write_text(path, dump_recipe(cell.recipe))
    elif keys := differing_keys(load_recipe(path), cell.recipe):
        raise OutputError(
            f"{folder} holds a cell of another recipe (differs in {', '.join(keys[:5])}); name a new folder"
        )


def _run(folder: Path, jobs: int, device: str, processes: list[BaseProcess]) -> int:
    """Train and measure one cell, each in a process of its own; returns the exit status of the last.

    The processes are added to the list, by which another thread can end them.
    """
    for step in STEPS:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        process = _process(partial(step, device=device), folder, threads)
        process.start()
        processes.append(process)
        try:
            process.join()
        finally:
            process.terminate()
        if process.exitcode:
            return process.exitcode
    return 0


def _process(step: Callable[[Path], None], folder: Path, threads: int) -> BaseProcess:
    """Where the system can, processes are forked from one that has loaded the libraries once and nothing else."""
    if "forkserver" in get_all_start_methods():
        context = get_context("forkserver")
        context.set_forkserver_preload(["palate.reproduce.cell"])
        return context.Process(target=_work, args=(step, folder, threads))
    return get_context("spawn").Process(target=_work, args=(step, folder, threads))


def _work(step: Callable[[Path], None], folder: Path, threads: int) -> None:
    """Run the process of a cell, with its output in the cell's log."""
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
    """End this process when the one that started it is gone: nobody would read what it makes, or know of it."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _line(result: CellResult, count: str) -> str:
    wrong = ", ".join(f"{one.scores.liked.f1.value:.3f} with {name}" for name, one in result.controls.items())
    return (
        f"{count} {result.cell}: F1 {result.scores.scores.liked.f1.value:.3f} ({wrong}), "
        f"{result.training.minutes:.1f} minutes, {result.answer.input_vectors:.0f} input vectors"
    )
