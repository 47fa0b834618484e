"""Dynamic batching of concurrent questions: those queued during a generation form the next batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.encoders.base import UserPrompt
from palate.errors import PalateError
from palate.model.model import PersonalizedModel
from palate.serve.settings import Limits
from palate.tasks.questions import Question


class OverloadedError(PalateError):
    """Error for a full queue; ``retry_after`` is the suggested delay before a retry, in seconds."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"{waiting} questions are waiting already; try again in {retry_after} s")


@dataclass(eq=False)
class QueuedQuestion:
    """A question about an encoded user; ``tell`` receives the answer in pieces, ``answer`` the complete text."""

    model: PersonalizedModel
    user: UserPrompt  # [1, M, E]
    question: Question
    tell: Callable[[str], None] | None = None
    answer: Future[str] = field(default_factory=Future)


class QuestionQueue(Protocol):
    """Protocol of queues that answer questions: with the loaded backbone in batches, or with an engine."""

    @property
    def waiting(self) -> int:
        """Number of queued questions."""

    def ask(self, questions: Sequence[QueuedQuestion]) -> None:
        """Queue questions, all or none; raises :class:`OverloadedError` if the queue is full."""

    def stop(self) -> None:
        """Answer the queued questions and stop."""


class Batcher:
    """Worker thread that answers questions in batches, without waiting for a batch to fill.

    Args:
        limits: Maximum batch size and queue length.
        observe: Called with the size of each batch.
    """

    def __init__(self, limits: Limits, observe: Callable[[int], None] = lambda size: None) -> None:
        self._limits, self._observe = limits, observe
        self._waiting: deque[QueuedQuestion] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds = 0.5  # moving average of the time of a batch
        self._thread = threading.Thread(target=self._work, name="palate-answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of queued questions."""
        return len(self._waiting)

    def ask(self, questions: Sequence[QueuedQuestion]) -> None:
        """Queue questions, all or none; raises :class:`OverloadedError` if the queue is full."""
        with self._changed:
            if self._stopped:
                raise OverloadedError(len(self._waiting), 1)
            if len(self._waiting) + len(questions) > max(self._limits.waiting, len(questions)):
                batches = 1 + len(self._waiting) // self._limits.batch
                raise OverloadedError(len(self._waiting), max(1, round(batches * self._seconds)))
            self._waiting.extend(questions)
            self._changed.notify()

    def stop(self) -> None:
        """Answer the queued questions and stop the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            try:
                answers = self._answer(batch)
            except Exception as error:
                for question in batch:
                    question.answer.set_exception(error)
            else:
                for question, text in zip(batch, answers, strict=True):
                    question.answer.set_result(text)
            self._observe(len(batch))
            self._seconds += 0.2 * (time.monotonic() - started - self._seconds)

    def _next_batch(self) -> list[QueuedQuestion]:
        with self._changed:
            batch: list[QueuedQuestion] = []
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    break
                while self._waiting and len(batch) < self._limits.batch:
                    question = self._waiting.popleft()
                    if question.answer.set_running_or_notify_cancel():  # else its client has gone
                        batch.append(question)
            return batch

    def _answer(self, batch: Sequence[QueuedQuestion]) -> list[str]:
        """Answer a batch, with one generation for all questions whose models have the same categories."""
        rows: dict[tuple[str, ...], list[int]] = {}
        for row, one in enumerate(batch):
            rows.setdefault(one.model.settings.categories, []).append(row)
        answers = [""] * len(batch)
        for some in rows.values():
            for row, text in zip(some, _generated([batch[row] for row in some]), strict=True):
                answers[row] = text
        return answers


def _generated(batch: Sequence[QueuedQuestion]) -> list[str]:
    """Generate answers with the first question's model; all questions' models have the same categories."""
    model = batch[0].model
    tells = [one.tell for one in batch]
    streamer = AnswerPieces(model.tokenizer, tells) if any(tells) else None
    users = UserPrompt.joined([one.user.to(model.device) for one in batch])
    return model.generate_from(users, [one.question for one in batch], streamer)


class AnswerPieces:
    """Streamer of ``generate`` that passes on each question's answer in pieces, split at whole characters."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, tells: Sequence[Callable[[str], None] | None]
    ) -> None:
        self._tokenizer, self._tells = tokenizer, tells
        self._tokens: list[list[int]] = [[] for _ in tells]
        self._told = [""] * len(tells)

    def put(self, value: Tensor) -> None:
        """Receive the next token of each answer, [B]; first the decoder's start tokens, [B, 1]."""
        for row, token in enumerate(value.flatten().tolist()):
            if self._tells[row] is not None:
                self._tokens[row].append(token)
                self._tell(row, self._text(row))

    def end(self) -> None:
        """Send the remaining pieces."""
        for row in range(len(self._tells)):
            self._tell(row, self._text(row), whole=True)

    def _text(self, row: int) -> str:
        text: str = self._tokenizer.decode(self._tokens[row], skip_special_tokens=True)
        return text

    def _tell(self, row: int, text: str, whole: bool = False) -> None:
        tell, told = self._tells[row], self._told[row]
        if tell is None or text == told or not text.startswith(told):
            return
        if whole or not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._told[row] = text
            tell(text[len(told) :])
