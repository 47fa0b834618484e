"""Work in threads for a request: stopped when nobody waits for it, and never both committed and refused."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import anyio
from anyio.from_thread import check_cancelled, run_sync
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

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


async def while_awaited(request: Request, work: Callable[[Callable[[], None]], T]) -> T:
    """Run ``work`` in a thread, with a check that stops it after the timeout or if the client disconnects.

    Raises :class:`ClientDisconnect`. The body must have been read.
    """
    with anyio.CancelScope() as scope:
        leaving = asyncio.create_task(_cancel_when_gone(request, scope))
        try:
            return await run_in_threadpool(work, check_cancelled)
        finally:
            leaving.cancel()
    raise ClientDisconnect


async def _cancel_when_gone(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
