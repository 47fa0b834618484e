"""How a command is stopped: Ctrl-C and SIGTERM end it in order, and a second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM asked this process to end, which it does as after Ctrl-C."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The shell's number for what has stopped the command."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def stop_in_order() -> None:
    """From now on raise :class:`KeyboardInterrupt` for the first signal that stops, and exit at the second.

    What is written is whole or not there at any moment, so that nothing is lost by an exit at once.
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
