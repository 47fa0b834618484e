"""Work in threads for a request: in turns, stopped when nobody waits, and never both committed and refused."""

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
"""Seconds between two checks of a request that waits for a lock."""

_limit: ContextVar[anyio.CancelScope | None] = ContextVar("limit", default=None)


@contextmanager
def limited(seconds: float) -> Iterator[anyio.CancelScope]:
    """Cancel the block after a time, unless its work calls :func:`committing` before."""
    with anyio.move_on_after(seconds) as scope:
        token = _limit.set(scope)
        try:
            yield scope
        finally:
            _limit.reset(token)


def check_awaited() -> None:
    """Stop the work of a thread whose request has ended; outside a request nothing happens."""
    if _limit.get() is not None:
        check_cancelled()


def committing() -> None:
    """Call in a thread before work that will last: from here on the request is not ended by its time.

    So a request is either refused and has changed nothing, or it is done and says so.
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
        await anyio.lowlevel.checkpoint_if_cancelled()
        scope.deadline = math.inf


def _lift(scope: anyio.CancelScope) -> bool:
    if scope.cancel_called:
        return False
    scope.deadline = math.inf
    return True


@contextmanager
def acquired(lock: threading.Lock | threading.RLock) -> Iterator[None]:
    """Hold a lock during the block; waiting for it ends when the request does."""
    while not lock.acquire(timeout=POLL):
        check_awaited()
    try:
        yield
    finally:
        lock.release()


class Turns:
    """Runs work in a few threads; what comes meanwhile waits, and is given up with its request.

    Args:
        at_once: Number of threads.
        waiting: Number of callers that may wait.
        rest: Seconds that a thread rests for each second of work, while other requests have the interpreter.
    """

    def __init__(self, at_once: int, waiting: int | float, rest: float = 0) -> None:
        self._at_once, self._waiting, self._rest = at_once, waiting, rest

    @cached_property
    def _places(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self._at_once)  # of the event loop that asks first

    @cached_property
    def _threads(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(self._at_once)

    async def take(self, work: Callable[[], T]) -> T:
        """Run ``work`` in its turn; raises :class:`OverloadedError` if too many wait."""
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
    """Lets bytes through at a rate that all callers share.

    Args:
        rate: Bytes a second; as many may come at once after a pause.
    """

    def __init__(self, rate: int) -> None:
        self._rate, self._taken = rate, -math.inf

    async def take(self, count: int) -> None:
        """Wait until ``count`` more bytes may come."""
        now = anyio.current_time()
        self._taken = max(self._taken, now - 1) + count / self._rate
        await anyio.sleep(max(self._taken - now, 0))


async def while_awaited(request: Request, turns: Turns, work: Callable[[Callable[[], None]], T]) -> T:
    """Run ``work`` in its turn, with a check that stops it after the timeout or if the client disconnects.

    The body must have been read.

    Raises:
        ClientDisconnect: The client has gone.
        OverloadedError: Too many wait.
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
