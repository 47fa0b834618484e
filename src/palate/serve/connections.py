"""Limits on a worker's connections: a timeout for request heads, a maximum number, and rate-limited log lines."""

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
"""Timeout for receiving a complete request head, in seconds, from the connection or from the head's first byte."""
HEAD_BYTES = 1 << 16
"""Maximum size of a request without its body, in bytes: request line, headers, chunk framing and trailers."""
FRAMING = 8
"""Maximum size of chunk framing per byte of a chunked body, in bytes; chunks of one byte need five."""
BACKLOG = 128
"""Length of the listen queue, and so the maximum number of connections accepted at once."""
RESERVED = 64
"""File descriptors reserved for files, the store and the log."""
LINES = 20
"""Maximum number of lines that a logger writes in :data:`LINES_SECONDS`."""
LINES_SECONDS = 10.0
"""Period of :data:`LINES`, in seconds."""


def most_connections() -> int:
    """Return the maximum number of connections under the limit of open files; ``sys.maxsize`` without a limit."""
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
    """Start of the wait of each connection without a request in progress, oldest first."""

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
        """Remove the connection from the waiting ones."""
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    @property
    def asks(self) -> bool:
        """Whether the connection has a request whose response is not complete."""
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
    """Log a warning if the number of connections is unlimited, as the system has no limit of open files."""
    if resource is None:
        log.warning(
            "this system has no limit of open files: connections without a request are closed after %g s, but their "
            "number is unlimited; limit it with a reverse proxy",
            SECONDS,
        )


class LimitedLines(logging.Filter):
    """Logging filter with a maximum number of lines per period; the next period's first line counts dropped ones."""

    def __init__(self, lines: int = LINES, seconds: float = LINES_SECONDS) -> None:
        super().__init__()
        self._lines, self._seconds = lines, seconds
        self._began, self._written, self._left_out = -seconds, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
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
    """Rate-limit the loggers that clients can trigger, uvicorn's and asyncio's; idempotent."""
    for name in ("uvicorn.error", "asyncio"):
        logger: Any = logging.getLogger(name)
        if not any(isinstance(one, LimitedLines) for one in logger.filters):
            logger.addFilter(LimitedLines())
