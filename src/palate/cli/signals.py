"""Signal handling: SIGINT and SIGTERM stop a command cleanly, and a second signal immediately."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """Exception of SIGTERM, which is handled like Ctrl-C."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return the exit code for an interrupt, 128 plus the signal number."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def stop_in_order() -> None:
    """Install handlers that raise :class:`KeyboardInterrupt` at the first signal and exit at the second.

    An immediate exit leaves no partial files, as all files are written atomically.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _STOPPING:
        signal.signal(each, _stop_at_once)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _stop_at_once(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)
