"""Cancellable work in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio.from_thread import check_cancelled
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


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
