"""Service layer of a worker: preparation of questions, and answers, whole or streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool

from palate.data.event_types import EventTypes
from palate.errors import NotServedError, StoreError
from palate.model.card import reading
from palate.recommend.files import is_recommender
from palate.serve import metrics
from palate.serve.batcher import Batcher, QueuedQuestion
from palate.serve.engine import ServedModel, Users
from palate.serve.explainer import Explainer, KnownItems
from palate.serve.recommending import Recommending, ServedRecommender
from palate.serve.responses import GivenAnswer, ModelFacts
from palate.serve.schemas import SentQuestion
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.store import UserStore
from palate.serve.waiting import Turns

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

FOLLOWING = 1.0
"""Seconds between two looks for items that another server of the store has deleted."""


class Service:
    """Operations of the routes."""

    def __init__(self, settings: ServeSettings) -> None:
        self.limits: Limits = settings.limits
        self.log_content = settings.log_content
        self.name = settings.run.resolve().name
        """What the OpenAI-compatible routes call the model."""
        model, recommender = _models(settings)
        catalogue = model or recommender
        assert catalogue is not None
        self.store = UserStore(settings.store, catalogue.repeats)
        self.users = Users(model, self.store, recommender)
        self._recommending: Recommending | None = None
        self._explainer: Explainer | None = None
        self._batcher: Batcher | None = None
        if recommender is not None:
            self._recommending = Recommending(recommender, self.users, self.limits)
        if model is not None:
            known = KnownItems(settings.run, model.model.settings, settings.data)
            self._explainer = Explainer(self.users, known, self.limits)
            self._batcher = Batcher(self.limits, metrics.batches.observe)
        self._encoding = Turns(ENCODING, WAITING)
        self._checking, self._parsing = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)
        self._following = anyio.CapacityLimiter(1)

    @property
    def served(self) -> ServedModel:
        """The language model; raises :class:`NotServedError` where there is none."""
        return self.users.served

    @property
    def explainer(self) -> Explainer:
        """What explains the language model's answers; raises :class:`NotServedError` where there is none."""
        assert self.served
        assert self._explainer is not None
        return self._explainer

    @property
    def batcher(self) -> Batcher:
        """What asks the language model; raises :class:`NotServedError` where there is none."""
        assert self.served
        assert self._batcher is not None
        return self._batcher

    @property
    def recommending(self) -> Recommending:
        """The recommender; raises :class:`NotServedError` where there is none."""
        if self._recommending is None:
            raise NotServedError(
                "this server has a language model and no recommender; start  palate serve RUN --recommender RUN2  "
                "with RUN2 of a recipe with a section recommend, on the same data"
            )
        return self._recommending

    def close(self) -> None:
        """Answer queued questions and close the store."""
        if self._batcher is not None:
            self._batcher.stop()
        self.store.close()

    def facts(self) -> ModelFacts:
        """Describe what is served."""
        model, recommender, catalogue = self.users.model, self.users.recommender, self.users.catalogue
        unrated = catalogue.unrated
        told = None if recommender is None else recommender.facts
        if model is None:
            assert told is not None
            identity, reads, items = told.model, told.reads, told.items
        else:
            identity, reads, items = model.identity, reading(model.reads), len(model.model.table)
        return ModelFacts(
            model=identity,
            card=None if model is None else model.model.card,
            instruction=None if model is None else model.model.settings.instruction,
            recommender=told,
            reads=reads,
            ratings=catalogue.scale,
            unrated=unrated if isinstance(unrated, float) else None,
            event_types=unrated.weights if isinstance(unrated, EventTypes) else {},
            items=items,
            limits=self.limits.model_dump(),
        )

    def titles(self, item_ids: Sequence[str]) -> list[str | None]:
        """Look up the titles of items."""
        if self._explainer is not None:
            return self._explainer.titles(item_ids)
        assert self.users.recommender is not None
        return [self.users.recommender.title(item_id) for item_id in item_ids]

    def prepare(self, sent: Sequence[SentQuestion]) -> list[Prepared]:
        """Encode the user prompts of questions.

        Raises :class:`UnknownUserError`, and :class:`DataError` for a question that is too long or whose history the
        model cannot read.
        """
        self.limits.check_count("questions", len(sent), self.limits.questions)
        return [self._prepared(number, question) for number, question in enumerate(sent)]

    async def follow(self) -> None:
        """Forget, within :data:`FOLLOWING` seconds, the items that other servers of the store delete; never ends."""
        while True:
            await anyio.sleep(FOLLOWING)
            with suppress(StoreError):  # it is asked again
                await anyio.to_thread.run_sync(self.users.notice, limiter=self._following)

    async def ready(self) -> None:
        """Raise :class:`StoreError` if the store cannot be used; never waits for the work of other requests."""
        await anyio.to_thread.run_sync(self.store.check, limiter=self._checking)

    async def parsing(self, work: Callable[[], T]) -> T:
        """Parse a large body in a thread, one at a time: threads that compute take turns with the event loop."""
        return await anyio.to_thread.run_sync(work, limiter=self._parsing)

    async def encoding(self, work: Callable[[], T], new_items: bool) -> T:
        """Run work in a thread; with new items, whose texts take long, in one of a few.

        Raises :class:`OverloadedError` if too many requests wait for these.
        """
        if not new_items:
            return await run_in_threadpool(work)
        return await self._encoding.take(work)

    def _prepared(self, number: int, sent: SentQuestion) -> Prepared:
        self.limits.check_question(sent, f"questions.{number}.")
        instruction = sent.instruction or self.served.model.settings.instruction
        if sent.user_id is not None:
            kept, source = self.users.encoded(sent.user_id)
            metrics.prompts.labels(source).inc()
            return Prepared(self.served.asked_of(kept, instruction), sent.user_id, kept.version)
        history, items = self.users.given(sent.history or [])
        return Prepared(self.served.asked(history, instruction, items), None, None)


def _models(settings: ServeSettings) -> tuple[ServedModel | None, ServedRecommender | None]:
    """Load the language model and the recommender, of which one may be missing."""
    if is_recommender(settings.run):
        return None, ServedRecommender(settings.run)
    model = ServedModel(settings.run, settings.backbone, settings.device, settings.data)
    return model, None if settings.recommender is None else ServedRecommender(settings.recommender)


async def answer_all(batcher: Batcher, prepared: Sequence[Prepared]) -> list[GivenAnswer]:
    """Answer questions in their order; raises :class:`OverloadedError`."""
    batcher.ask([one.question for one in prepared])
    texts = await asyncio.gather(*(asyncio.wrap_future(one.question.answer) for one in prepared))
    return [one.given(text) for one, text in zip(prepared, texts, strict=True)]


@dataclass(frozen=True)
class Part:
    """What comes of a question's answer while it is written."""

    kind: Literal["piece", "answer", "error"]
    number: int
    text: str
    """A piece of the answer, the whole one, or what went wrong."""


def answer_parts(batcher: Batcher, prepared: Sequence[Prepared]) -> AsyncIterator[Part]:
    """Answer questions and tell the pieces, and at the end of each the answer.

    Raises :class:`OverloadedError` at once, before anything is told.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Queue[Part]()

    def tell(part: Part) -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(told.put_nowait, part)

    for number, one in enumerate(prepared):
        one.question.tell = lambda text, number=number: tell(Part("piece", number, text))
        one.question.answer.add_done_callback(lambda answer, number=number: tell(_ended(answer, number)))  # type: ignore[misc]
    batcher.ask([one.question for one in prepared])
    return _parts(told, prepared)


def answer_pieces(batcher: Batcher, prepared: Sequence[Prepared], model: str) -> AsyncIterator[str]:
    """Stream server-sent events: ``piece``s, an ``answer`` for each question, and ``done``.

    Raises :class:`OverloadedError` at once, before anything is sent.
    """
    return _events(answer_parts(batcher, prepared), prepared, model)


def _ended(answer: Future[str], number: int) -> Part:
    error = None if answer.cancelled() else answer.exception()
    if error is None and not answer.cancelled():
        return Part("answer", number, answer.result())
    return Part("error", number, "the server failed; its log says more")


async def _parts(told: asyncio.Queue[Part], prepared: Sequence[Prepared]) -> AsyncIterator[Part]:
    left = len(prepared)
    try:
        while left:
            part = await told.get()
            left -= part.kind != "piece"
            yield part
    finally:  # nobody reads on: what no batch has taken need not be answered
        for one in prepared:
            one.question.answer.cancel()


async def _events(parts: AsyncIterator[Part], prepared: Sequence[Prepared], model: str) -> AsyncIterator[str]:
    async for part in parts:
        if part.kind == "piece":
            yield _event("piece", {"question": part.number, "text": part.text})
        elif part.kind == "answer":
            yield _event(
                "answer", {"question": part.number, **prepared[part.number].given(part.text).model_dump()}
            )
        else:
            yield _event("error", {"question": part.number, "detail": part.text})
    yield _event("done", {"model": model})


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
