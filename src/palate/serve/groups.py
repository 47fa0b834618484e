"""Work in groups: a thread that does what concurrent requests ask for together, such as in one transaction."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from palate.errors import StoreError, StoreFullError

Sent = TypeVar("Sent")
Result = TypeVar("Result")


class GroupWorker(Generic[Sent, Result]):
    """Thread that does queued work in groups: what arrives during the work on a group forms the next one.

    A future completes when the work on its group is done. What is invalid fails alone.

    Args:
        work: Does the work on a group, all or none of it; returns for each member its result or its error.
        size: Returns the size of a member.
        most: Maximum total size of a group, unless a single member exceeds it.
        name: Name of the thread.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Sent]], Sequence[Result | Exception]],
        size: Callable[[Sent], int],
        most: int,
        name: str,
    ) -> None:
        self._do, self._size, self._most, self._name = work, size, most, name
        self._waiting: deque[tuple[Sent, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def submit(self, sent: Sent) -> Future[Result]:
        """Queue a member; the future has its result, or raises its error."""
        answer: Future[Result] = Future()
        with self._changed:
            if self._stopped:
                raise StoreError("the store is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append((sent, answer))
            self._changed.notify()
        return answer

    def stop(self) -> None:
        """Do the queued work and stop the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while group := self._next_group():
            self._do_all(group)

    def _do_all(self, group: Sequence[tuple[Sent, Future[Result]]]) -> None:
        try:
            outcomes = self._do([sent for sent, _ in group])
        except Exception as error:  # nothing was done
            busy = isinstance(error, StoreError) and not isinstance(error, StoreFullError)
            for one in group:
                if busy or len(group) == 1:
                    one[1].set_exception(error)
                else:  # a single member may have caused the error
                    self._do_all([one])
        else:
            for (_, answer), outcome in zip(group, outcomes, strict=True):
                _tell(answer, outcome)

    def _next_group(self) -> list[tuple[Sent, Future[Result]]]:
        with self._changed:
            group: list[tuple[Sent, Future[Result]]] = []
            size = 0
            while not group:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    break
                while self._waiting and (not group or size + self._size(self._waiting[0][0]) <= self._most):
                    sent, answer = self._waiting.popleft()
                    if answer.set_running_or_notify_cancel():  # else cancelled by its request
                        group.append((sent, answer))
                        size += self._size(sent)
            return group


def _tell(answer: Future[Result], outcome: Result | Exception) -> None:
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
