"""The thread that commits the events of concurrent requests together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from palate.errors import StoreError, StoreFullError
from palate.serve.store.appending import Addition, Outcome
from palate.serve.store.changes import Appended

MOST = 2_000
"""Events that are committed together, unless one request has more."""
Promised: TypeAlias = "Future[dict[str, Appended]]"


class EventWriter:
    """Commits what waits: what comes during a commit is the next one's, so that no one waits for a group to fill.

    A request is answered when its group is durable. One that is refused is refused alone.

    Args:
        commit: Adds events in one transaction, and gives the outcome of each addition.
    """

    def __init__(self, commit: Callable[[Sequence[Addition]], list[Outcome]]) -> None:
        self._commit = commit
        self._waiting: deque[tuple[Addition, Promised]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def submit(self, addition: Addition) -> Promised:
        """Add events; the future has the results by user id, or raises what they were refused for."""
        answer: Promised = Future()
        with self._changed:
            if self._stopped:
                raise StoreError("the store is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="palate-events", daemon=True)
                self._thread.start()
            self._waiting.append((addition, answer))
            self._changed.notify()
        return answer

    def stop(self) -> None:
        """Commit what waits, and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while group := self._next_group():
            self._commit_all(group)

    def _commit_all(self, group: Sequence[tuple[Addition, Promised]]) -> None:
        try:
            outcomes = self._commit([addition for addition, _ in group])
        except Exception as error:  # nothing was committed
            busy = isinstance(error, StoreError) and not isinstance(error, StoreFullError)
            for one in group:
                if busy or len(group) == 1:
                    one[1].set_exception(error)
                else:  # the error may be of one alone
                    self._commit_all([one])
        else:
            for (_, answer), outcome in zip(group, outcomes, strict=True):
                _tell(answer, outcome)

    def _next_group(self) -> list[tuple[Addition, Promised]]:
        with self._changed:
            group: list[tuple[Addition, Promised]] = []
            size = 0
            while not group:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    break
                while self._waiting and (not group or size + _size(self._waiting[0][0]) <= MOST):
                    addition, answer = self._waiting.popleft()
                    if answer.set_running_or_notify_cancel():  # or nobody waits for it any more
                        group.append((addition, answer))
                        size += _size(addition)
            return group


def _size(addition: Addition) -> int:
    return sum(map(len, addition.sent.values()))


def _tell(answer: Promised, outcome: Outcome) -> None:
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
