"""Process engines: run idempotent tasks in processes of this machine or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from palate.errors import OutputError, PalateError
from palate.system.extras import missing_extra
from palate.system.machine import describe_machine

EngineName: TypeAlias = Literal["local", "ray"]
_MOST_DEATHS = 3
"""Consecutive worker deaths without a finished task, after which the engine gives up."""
Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


class ShardTask(Protocol[Result_co]):
    """An idempotent task: running it twice does no harm."""

    @property
    def done(self) -> bool:
        """Whether the result is stored, so that the task need not run."""

    def run(self) -> Result_co:
        """Run the task and return its result."""


class ShardEngine(Protocol):
    """Runs tasks in any order, each until it succeeds or fails with an error."""

    @property
    def resources(self) -> ExitStack:
        """Resources of the tasks, such as a folder of files that they read; released when the engine stops."""

    def run(self, tasks: Sequence[ShardTask[Result]]) -> Iterator[Result]:
        """Yield the results in any order.

        Raises:
            PalateError: The error of the first task that fails.
        """


@contextmanager
def shard_engine(name: EngineName, workers: int | None = None) -> Iterator[ShardEngine]:
    """Start an engine.

    Args:
        name: ``local`` for processes of this machine; ``ray`` for the Ray cluster that ``RAY_ADDRESS`` names or this
            process is connected to, or else a new one on this machine.
        workers: Number of processes; one per CPU core if None.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    if name == "ray":
        with _ray(workers) as engine, engine.resources:
            yield engine
    else:
        local = _Local(workers or describe_machine().cores)
        with local.resources:
            try:
                yield local
            finally:
                local.stop()


@contextmanager
def engine_beside(name: EngineName, workers: int) -> Iterator[ShardEngine | None]:
    """Start an engine; yields None for a single local worker, which needs no other process."""
    if name == "local" and workers == 1:
        yield None
    else:
        with shard_engine(name, workers) as engine:
            yield engine


class _Local:
    """Runs tasks in processes of this machine, which are kept from one run to the next.

    The task of a dead worker is run again by another.
    """

    def __init__(self, workers: int) -> None:
        self.workers, self.resources = workers, ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def stop(self) -> None:
        """End the worker processes, after the tasks that they are running."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def run(self, tasks: Sequence[ShardTask[Result]]) -> Iterator[Result]:
        if self.workers == 1 or len(tasks) < 2:
            yield from (task.run() for task in tasks)
            return
        left, deaths = list(tasks), 0
        while left:
            done = []
            try:
                for task, result in self._round(left):
                    done.append(task)
                    deaths = 0
                    yield result
            except BrokenProcessPool:
                self.stop()
                deaths += 1
                if deaths >= _MOST_DEATHS:
                    raise OutputError(
                        f"workers were killed {deaths} times, with {len(left) - len(done)} of {len(tasks)} tasks "
                        "left; if the system ran out of memory, use fewer --workers or smaller parts, and run it "
                        "again"
                    ) from None
            left = [task for task in left if not any(task is one for one in done)]

    def _round(self, tasks: Sequence[ShardTask[Result]]) -> Iterator[tuple[ShardTask[Result], Result]]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin_worker)
        running: dict[Future[Result], ShardTask[Result]] = {}
        waiting = iter(tasks)
        try:
            while True:
                with _one_thread_each():  # a submitted task may start a process
                    while len(running) <= self.workers and (task := next(waiting, None)) is not None:
                        running[self._pool.submit(_run, task)] = task
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    task = running.pop(future)
                    yield task, future.result()
        finally:
            if running:  # a task failed, a worker died or no more results are wanted
                self.stop()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limit worker processes to one thread each, because there is one worker per core."""
    names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(task: ShardTask[Result]) -> Result:
    return task.run()


def _begin_worker() -> None:
    """Ignore interrupts, which the parent process handles, and exit when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


class _OnRay:
    """Runs tasks as rows of a Ray dataset; the task of a dead worker or node is run again by another."""

    def __init__(self) -> None:
        self.resources = ExitStack()

    def run(self, tasks: Sequence[ShardTask[Result]]) -> Iterator[Result]:
        import ray.data

        if not tasks:
            return
        rows = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
        for row in rows.map(_run_row).iter_rows():
            if row["error"] is not None:
                raise row["error"]
            yield row["result"]


def _run_row(row: dict[str, Any]) -> dict[str, Any]:
    """Run a task; its error is returned, because Ray would wrap a raised one."""
    try:
        return {"result": row["task"].run(), "error": None}
    except PalateError as error:
        return {"result": None, "error": error}


@contextmanager
def _ray(workers: int | None) -> Iterator[ShardEngine]:
    try:
        import ray
        import ray.data
    except ImportError:
        raise missing_extra("the engine ray needs Ray", "ray") from None
    begun = not ray.is_initialized()
    if begun:
        ray.init(
            num_cpus=None if "RAY_ADDRESS" in os.environ else workers,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield _OnRay()
    finally:
        context.enable_progress_bars = shown
        if begun:
            ray.shutdown()
