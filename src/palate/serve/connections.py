"""Connections of a worker: closed while no whole request comes, and never more than the process can hold."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import suppress
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

resource: Any = None
with suppress(ImportError):  # Windows does not have it
    import resource

log = logging.getLogger("palate.serve")

SECONDS = 10.0
"""How long a connection may wait for the end of a request's head: a new one, and one that has begun a next head."""
HEAD_BYTES = 1 << 16
"""Bytes that a request may have besides its body: request line, headers, chunk framing and trailers."""
FRAMING = 8
"""Bytes of chunk framing allowed for each byte of a chunked body; chunks of one byte take five."""
BACKLOG = 128
"""Connections that the system holds until they are accepted, and at most as many are accepted at a time."""
RESERVED = 64
"""Descriptors that are left for files, the store and the log."""
LINES = 20
"""Lines that a logger may write in each :data:`LINES_SECONDS`."""
LINES_SECONDS = 10.0


def most_connections() -> int:
    """Return how many connections the limit of open files allows; any number where the system has no such limit."""
    if resource is None:
        return sys.maxsize
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(soft - BACKLOG - RESERVED, 16)


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 protocol of uvicorn, parsed by httptools, with limits on the time, size and number of connections.

    A connection without a complete request head after :data:`SECONDS` is closed. When there are too many connections,
    the one that has waited longest is closed, so that idle connections cannot keep out new ones. A request with more
    than :data:`HEAD_BYTES` besides its body is refused. :class:`~palate.serve.gate.Gate` limits the time and size of
    the body.
    """

    waiting: ClassVar[dict[GuardedProtocol, float]] = {}
    """When each connection without a request in progress began to wait, oldest first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first head, and close the longest waiting connections if there are too many."""
        super().connection_made(transport)
        self._begins = False
        self._framing = self._body = 0
        self._wait()
        while len(self.connections) > most_connections() and self.waiting:
            oldest = next(iter(self.waiting))
            oldest.abort()

    def data_received(self, data: bytes) -> None:
        """Parse; a complete head stops the timeout, and the first byte of the next one starts it again."""
        self._begins = False
        super().data_received(data)
        if not self._begins:  # what began in this part is small, as the part is
            self._framing += len(data)
        if self._framing - self._body > HEAD_BYTES + FRAMING * self._body:
            self._refuse()
        elif self.asks:
            self.waiting.pop(self, None)
        elif self not in self.waiting and not self.transport.is_closing():
            self._wait()

    def on_message_begin(self) -> None:
        """Count the bytes of a request from here."""
        super().on_message_begin()
        self._begins = True
        self._framing = self._body = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which :data:`HEAD_BYTES` do not include."""
        super().on_body(body)
        if not self._begins:
            self._body += len(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop tracking the connection."""
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    @property
    def asks(self) -> bool:
        """Whether a request is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    def abort(self) -> None:
        """Close the connection immediately."""
        self.waiting.pop(self, None)
        self.connections.discard(self)
        self.transport.abort()

    def _refuse(self) -> None:
        """Respond with status 400 where no response is in progress, and close the connection."""
        if self.asks:
            self.abort()
        elif not self.transport.is_closing():
            self.send_400_response(f"The request has more than {HEAD_BYTES} bytes besides its body.")

    def _unsupported_upgrade_warning(self) -> None:
        """Answer as if no upgrade were asked for; the parser reads nothing after it, so the connection is closed."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _wait(self) -> None:
        self.waiting[self] = time.monotonic()
        self.loop.call_later(SECONDS, self._close_if_waiting, self.waiting[self])

    def _close_if_waiting(self, since: float) -> None:
        if self.waiting.get(self) == since:
            self.abort()


def tell_if_unbounded() -> None:
    """Say in the log that connections are not capped, where the system has no limit of open files."""
    if resource is None:
        log.warning(
            "this system has no limit of open files: connections without a request are closed after %g s, but their "
            "number is not bounded; a proxy before the server can bound it",
            SECONDS,
        )


class LimitedLines(logging.Filter):
    """Lets a number of a logger's lines through in each period; the next period says how many were left out."""

    def __init__(self, lines: int = LINES, seconds: float = LINES_SECONDS) -> None:
        super().__init__()
        self._lines, self._seconds = lines, seconds
        self._began, self._written, self._left_out = -seconds, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        now = time.monotonic()
        if now - self._began >= self._seconds:
            if self._left_out:
                record.msg = f"{record.getMessage()} ({self._left_out:,} earlier lines were left out)"
                record.args = None
            self._began, self._written, self._left_out = now, 0, 0
        if self._written == self._lines:
            self._left_out += 1
            return False
        self._written += 1
        return True


def limit_lines() -> None:
    """Limit the lines of the loggers that clients can make write: uvicorn's and asyncio's, once."""
    for name in ("uvicorn.error", "asyncio"):
        logger: Any = logging.getLogger(name)
        if not any(isinstance(one, LimitedLines) for one in logger.filters):
            logger.addFilter(LimitedLines())
