"""The log of a worker process: how its lines are formatted and written."""

from __future__ import annotations

import asyncio
import logging
import time


class Stamped(logging.Formatter):
    """Formatter of lines with their time, whose text is made once a second."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._second, self._text = -1, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the local time of a record, with milliseconds."""
        second = int(record.created)
        text = self._text
        if second != self._second:
            text = time.strftime("%Y-%m-%d %H:%M:%S", self.converter(second))
            self._second, self._text = second, text
        return f"{text},{int(record.msecs):03d}"


class JoinedLines(logging.StreamHandler):  # type: ignore[type-arg]
    """Stream handler that writes the lines of one iteration of the event loop at once, and other lines immediately.

    A write gives the GIL to another thread. Where a commit answers many requests, their lines are one write.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and write it with those that follow in this iteration; errors are written immediately."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            loop = None if record.levelno >= logging.WARNING else _running_loop()
            if loop is None:
                self.flush()
            elif len(self._lines) == 1:
                loop.call_soon(self.flush)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that were kept back."""
        assert self.lock is not None
        with self.lock:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()


def show_log() -> None:
    """Write the server's log to stderr, in a process that runs nothing else."""
    handler = JoinedLines()
    handler.setFormatter(Stamped())
    log = logging.getLogger("palate.serve")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    # what no line shows need not be found out for each (Python's logging HOWTO, Optimization)
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # another thread
        return None
