"""Threads for requests: bounded pools, cancellation at timeout or disconnect, and commits without cancellation."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.from_thread import check_cancelled, run_sync
from starlette.requests import ClientDisconnect, Request

from palate.serve.batcher import OverloadedError

T = TypeVar("T")
POLL = 0.1
"""Interval at which a thread that waits for a lock checks for cancellation, in seconds."""

_limit: ContextVar[anyio.CancelScope | None] = ContextVar("limit", default=None)


@contextmanager
def limited(seconds: float) -> Iterator[anyio.CancelScope]:
    """Cancel the block after a timeout, unless its work has called :func:`committing`."""
    with anyio.move_on_after(seconds) as scope:
        token = _limit.set(scope)
        try:
            yield scope
        finally:
            _limit.reset(token)


def check_awaited() -> None:
    """Raise the cancellation error in a thread whose request was cancelled; does nothing outside a request."""
    if _limit.get() is not None:
        check_cancelled()


def committing() -> None:
    """Disable the request's timeout; to be called in a thread before a transaction is committed.

    So a request that responds with a timeout has changed nothing, and one that commits reports it.
    """
    scope = _limit.get()
    if scope is not None:
        check_cancelled()
        if not run_sync(_lift, scope):
            check_cancelled()


async def committing_here() -> None:
    """Do what :func:`committing` does, on the event loop."""
    scope = _limit.get()
    if scope is not None:
        if anyio.current_time() >= scope.deadline:
            scope.cancel()
        if scope.cancel_called:
            await anyio.lowlevel.checkpoint_if_cancelled()
        scope.deadline = math.inf


def _lift(scope: anyio.CancelScope) -> bool:
    if scope.cancel_called:
        return False
    scope.deadline = math.inf
    return True


@contextmanager
def acquired(lock: threading.Lock | threading.RLock) -> Iterator[None]:
    """Hold a lock during the block; waiting for it stops when the request is cancelled."""
    while not lock.acquire(timeout=POLL):
        check_awaited()
    try:
        yield
    finally:
        lock.release()


class Turns:
    """Thread pool with a bounded queue, whose entries leave it when their request is cancelled.

    Args:
        at_once: Number of threads.
        waiting: Maximum number of queued callers.
        rest: Idle time of a thread after work, as a multiple of the work's time; leaves the GIL to other requests.
    """

    def __init__(self, at_once: int, waiting: int | float, rest: float = 0) -> None:
        self._at_once, self._waiting, self._rest = at_once, waiting, rest

    @cached_property
    def _places(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self._at_once)  # bound to the event loop of the first call

    @cached_property
    def _threads(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self._at_once)

    async def take(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread; raises :class:`OverloadedError` if the queue is full."""
        waiting = self._places.statistics().tasks_waiting
        if waiting >= self._waiting:
            raise OverloadedError(waiting, 1)
        place = object()
        await self._places.acquire_on_behalf_of(place)
        began = time.monotonic()
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            rest = self._rest * (time.monotonic() - began)
            asyncio.get_running_loop().call_later(rest, self._places.release_on_behalf_of, place)


class Pace:
    """Rate limiter of bytes, shared by all callers.

    Args:
        rate: Bytes per second, also the maximum burst.
    """

    def __init__(self, rate: int) -> None:
        self._rate, self._taken = rate, -math.inf

    async def take(self, count: int) -> None:
        """Wait until ``count`` more bytes are within the rate."""
        now = anyio.current_time()
        self._taken = max(self._taken, now - 1) + count / self._rate
        await anyio.sleep(max(self._taken - now, 0))


async def while_awaited(request: Request, turns: Turns, work: Callable[[Callable[[], None]], T]) -> T:
    """Run ``work`` in a thread pool, and cancel it if the client disconnects; the body must have been read.

    Args:
        request: The request, whose connection is watched.
        turns: The thread pool.
        work: Receives a function to call regularly, which raises an error once the request is cancelled.

    Raises:
        ClientDisconnect: The client has disconnected.
        OverloadedError: The pool's queue is full.
    """
    with anyio.CancelScope() as scope:
        leaving = asyncio.create_task(_cancel_when_gone(request, scope))
        try:
            return await turns.take(lambda: work(check_cancelled))
        finally:
            leaving.cancel()
    raise ClientDisconnect


async def _cancel_when_gone(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
