"""Service layer of a worker: preparation of questions, and answers, whole or streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool

from palate.errors import DataError
from palate.serve import metrics
from palate.serve.batcher import Batcher, OverloadedError, QueuedQuestion
from palate.serve.engine import ServedModel, Users
from palate.serve.explainer import Explainer, KnownItems
from palate.serve.responses import GivenAnswer
from palate.serve.schemas import SentQuestion
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.store import UserStore

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A question with its encoded user prompt, and the version of the stored history."""

    question: QueuedQuestion
    user_id: str | None
    version: int | None

    def given(self, text: str) -> GivenAnswer:
        """Create the response from the answer's text."""
        return GivenAnswer(
            user_id=self.user_id, version=self.version, instruction=self.question.question.text, text=text
        )


ENCODING = 2
"""Requests with new items that are worked on at a time, in threads of their own: the others need not wait for them."""
WAITING = 32
"""Requests with new items that wait for one of these threads; more are refused."""


class Service:
    """Operations of the routes."""

    def __init__(self, settings: ServeSettings) -> None:
        self.limits: Limits = settings.limits
        self.log_content = settings.log_content
        self.served = ServedModel(settings.run, settings.backbone, settings.device, settings.data)
        self.store = UserStore(settings.store)
        self.users = Users(self.served, self.store)
        known = KnownItems(settings.run, self.served.model.settings, settings.data)
        self.explainer = Explainer(self.users, known, self.limits)
        self.batcher = Batcher(self.limits, metrics.batches.observe)
        self._encoding = anyio.CapacityLimiter(ENCODING)
        self._checking = anyio.CapacityLimiter(1)

    def close(self) -> None:
        """Answer queued questions and close the store."""
        self.batcher.stop()
        self.store.close()

    def prepare(self, sent: Sequence[SentQuestion]) -> list[Prepared]:
        """Encode the user prompts of questions.

        Raises :class:`UnknownUserError`, and :class:`DataError` for a question that is too long or whose history the
        model cannot read.
        """
        self.check_length("questions", len(sent), self.limits.questions)
        return [self._prepared(number, question) for number, question in enumerate(sent)]

    async def ready(self) -> None:
        """Raise :class:`StoreError` if the store cannot be used; never waits for the work of other requests."""
        await anyio.to_thread.run_sync(self.store.check, limiter=self._checking)

    async def encoding(self, work: Callable[[], T], new_items: bool) -> T:
        """Run work in a thread; with new items, whose texts take long, in one of a few.

        Raises :class:`OverloadedError` if too many requests wait for these.
        """
        if not new_items:
            return await run_in_threadpool(work)
        waiting = self._encoding.statistics().tasks_waiting
        if waiting >= WAITING:
            raise OverloadedError(waiting, 2)
        return await anyio.to_thread.run_sync(work, limiter=self._encoding)

    def check_length(self, name: str, found: int, most: int) -> None:
        """Raise :class:`DataError` if a request exceeds a limit."""
        if found > most:
            raise DataError(f"{name}: found {found:,}, expected at most {most:,}; send them in parts")

    def _prepared(self, number: int, sent: SentQuestion) -> Prepared:
        self.limits.check_question(sent, f"questions.{number}.")
        instruction = sent.instruction or self.served.model.settings.instruction
        if sent.user_id is not None:
            kept, source = self.users.encoded(sent.user_id)
            metrics.prompts.labels(source).inc()
            return Prepared(self.served.asked_of(kept, instruction), sent.user_id, kept.version)
        history, items = self.users.given(sent.history or [])
        return Prepared(self.served.asked(history, instruction, items), None, None)


async def answer_all(batcher: Batcher, prepared: Sequence[Prepared]) -> list[GivenAnswer]:
    """Answer questions in their order; raises :class:`OverloadedError`."""
    batcher.ask([one.question for one in prepared])
    texts = await asyncio.gather(*(asyncio.wrap_future(one.question.answer) for one in prepared))
    return [one.given(text) for one, text in zip(prepared, texts, strict=True)]


def answer_pieces(batcher: Batcher, prepared: Sequence[Prepared], model: str) -> AsyncIterator[str]:
    """Stream server-sent events: ``piece``s, an ``answer`` for each question, and ``done``.

    Raises :class:`OverloadedError` at once, before anything is sent.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Queue[tuple[str, int, str]]()

    def tell(kind: str, number: int, text: str) -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(told.put_nowait, (kind, number, text))

    for number, one in enumerate(prepared):
        one.question.tell = lambda text, number=number: tell("piece", number, text)
        one.question.answer.add_done_callback(
            lambda answer, number=number: tell(  # type: ignore[misc]
                *(("answer", number, answer.result()) if _answered(answer) else ("error", number, ""))
            )
        )
    batcher.ask([one.question for one in prepared])
    return _events(told, prepared, model)


def _answered(answer: Any) -> bool:
    return not answer.cancelled() and answer.exception() is None


async def _events(
    told: asyncio.Queue[tuple[str, int, str]], prepared: Sequence[Prepared], model: str
) -> AsyncIterator[str]:
    left = len(prepared)
    try:
        while left:
            kind, number, text = await told.get()
            if kind == "piece":
                yield _event("piece", {"question": number, "text": text})
                continue
            left -= 1
            if kind == "answer":
                yield _event("answer", {"question": number, **prepared[number].given(text).model_dump()})
            else:
                yield _event("error", {"question": number, "detail": "the server failed; its log says more"})
        yield _event("done", {"model": model})
    finally:  # nobody reads on: what no batch has taken need not be answered
        for one in prepared:
            one.question.answer.cancel()


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
