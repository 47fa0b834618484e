"""Service layer of a worker: loads the models, and implements the routes' operations and streamed answers."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool

from palate.answers.answerer import AskedQuestion, WordedAnswer
from palate.answers.writer import SentenceWriter, load_writer
from palate.data.event_types import EventTypes
from palate.errors import EngineError, NotServedError, OutputError, StoreError
from palate.export.noted import exports_with, forget_in_exports
from palate.model.card import reading
from palate.recommend.files import is_recommender
from palate.schema import titled
from palate.serve import metrics
from palate.serve.answering import Answering, AskedOfModel
from palate.serve.batcher import Batcher, QuestionQueue, QueuedQuestion
from palate.serve.catalogue import ServedItems
from palate.serve.engine import Encoding, PromptOrigin, ServedModel, Users
from palate.serve.explainer import Explainer, KnownItems
from palate.serve.recommending import Recommending, ServedRecommender
from palate.serve.remote import EngineWriter, RemoteAnswers
from palate.serve.responses import (
    DeletedUser,
    EngineState,
    FirstEvent,
    FirstLook,
    GivenAnswer,
    KnownItem,
    ModelFacts,
)
from palate.serve.schemas import SentQuestion
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.keeping import Encoded
from palate.serve.store.personal import personal_data
from palate.serve.store.store import UserStore
from palate.serve.tasting import Tasting
from palate.serve.waiting import Turns
from palate.tasks.questions import Question
from palate.words import counted

T = TypeVar("T")
log = logging.getLogger("palate.serve")


@dataclass(frozen=True)
class Prepared:
    """A question to the language model with its user prompt, and the version of the stored history."""

    question: QueuedQuestion
    user_id: str | None
    version: int | None
    asked: AskedQuestion | None = None
    """Result of matching a free-text question; None for the trained instruction."""

    def given(self, text: str) -> GivenAnswer:
        """Create the response from the answer's text."""
        instruction = self.question.question.text if self.asked is None else self.asked.text
        return GivenAnswer(
            user_id=self.user_id,
            version=self.version,
            instruction=instruction,
            text=text,
            **_matched(self.asked),
        )


@dataclass(frozen=True)
class Said:
    """An answer that was computed from scores, and the version of the stored history."""

    answer: WordedAnswer
    user_id: str | None
    version: int | None
    asked: AskedQuestion

    def given(self, text: str) -> GivenAnswer:
        """Create the response."""
        said = self.answer
        return GivenAnswer(
            user_id=self.user_id,
            version=self.version,
            instruction=self.asked.text,
            text=text,
            source=said.source,
            by=said.by,
            personal=said.personal,
            chances=said.chances,
            reasons=said.reasons,
            **_matched(self.asked),
        )


def _matched(asked: AskedQuestion | None) -> dict[str, Any]:
    """Return the response fields that describe what a question was matched to."""
    if asked is None:
        return {}
    return {
        "kind": asked.kind,
        "wording": asked.wording,
        "match": asked.probability,
        "entities": asked.entities,
    }


SLOW = 2
"""Size of the thread pool for slow requests, which have new items or long histories."""
WAITING = 32
"""Maximum number of slow requests that wait for one of these threads; further ones are refused."""

FOLLOWING = 1.0
"""Interval of polling the store for items that other servers have deleted, in seconds."""


EXAMPLE_EVENTS = 40
"""Preferred maximum number of events of the example user: enough to look at, and quick to answer about."""

AGEING = 3_600.0
"""Interval between deletions of events that exceed the retention age, in seconds."""


class Service:
    """Operations of the routes.

    Args:
        settings: Settings of the server.
        beside: Service of another model whose store is shared, and not closed by this one; None opens a store.
    """

    def __init__(self, settings: ServeSettings, beside: Service | None = None) -> None:
        self.limits: Limits = settings.limits
        self.log_content = settings.log_content
        self.name = settings.called or settings.run.resolve().name
        """Name of the model in the OpenAI-compatible routes."""
        model, recommender = _models(settings)
        catalogue = model or recommender
        assert catalogue is not None
        self._owns_store = beside is None
        self.store: UserStore = (
            UserStore(settings.store, catalogue.repeats, settings.retention_days)
            if beside is None
            else beside.store
        )
        self._ages = settings.retention_days is not None
        self._runs: list[tuple[Path, Path | None]] = (
            [(settings.run, settings.data)] if beside is None else beside._runs
        )
        if settings.previous is not None:
            self._runs.append((settings.previous, settings.of_previous.data))
        self.users = Users(model, self.store, recommender)
        self._recommending: Recommending | None = None
        self._explainer: Explainer | None = None
        self._batcher: QuestionQueue | None = None
        self.engine: EngineWriter | None = None
        """The engine that generates instead of the loaded backbone; None without one."""
        if recommender is not None:
            self._recommending = Recommending(recommender, self.users, self.limits)
        if model is not None:
            known = KnownItems(settings.run, model.model.settings, settings.data)
            self._explainer = Explainer(self.users, known, self.limits)
            if settings.engine is None:
                self._batcher = Batcher(self.limits, metrics.batches.observe)
            else:
                self.engine = EngineWriter(model.model, settings.engine, self.limits)
                self._batcher = RemoteAnswers(self.engine, self.limits)
        self.writer: SentenceWriter | None = None if beside is None else beside.writer
        """Words the answers to free questions; None for templates."""
        if beside is None and settings.writer is not None:
            self.writer = load_writer(
                settings.writer, settings.device, None if model is None else model.model
            )
        self.answering = Answering(self.users, self.limits, self.writer)
        self.items = ServedItems(self._explainer, recommender)
        self.tasting = Tasting(self.users, self.items, self.limits)
        self.slow = Turns(SLOW, WAITING)
        self._parsing = Turns(1, math.inf, rest=1)
        self._checking = anyio.CapacityLimiter(1)
        self._following = anyio.CapacityLimiter(1)
        self._ageing = anyio.CapacityLimiter(1)

    @property
    def served(self) -> ServedModel:
        """The language model; raises :class:`NotServedError` without one."""
        return self.users.served

    @property
    def explainer(self) -> Explainer:
        """The explainer of the language model's answers; raises :class:`NotServedError` without a language model."""
        assert self.served
        assert self._explainer is not None
        return self._explainer

    @property
    def batcher(self) -> QuestionQueue | None:
        """The queue of questions to the language model; None without a language model."""
        return self._batcher

    @property
    def identity(self) -> str:
        """Identity of the language model, or of the recommender if there is no language model."""
        catalogue = self.users.model or self.users.recommender
        assert catalogue is not None
        return catalogue.identity

    @property
    def encodings(self) -> list[Encoding]:
        """The models whose encodings of users are cached in the store."""
        found: list[Encoding | None] = [self.users.model, self.users.recommender]
        return [one for one in found if one is not None]

    @property
    def recommending(self) -> Recommending:
        """The recommender; raises :class:`NotServedError` without one."""
        if self._recommending is None:
            raise NotServedError(
                "this server has a language model and no recommender; start  palate serve RUN --recommender RUN2  "
                "with a run RUN2 that a recipe with a section recommend was trained into, on the same data"
            )
        return self._recommending

    def close(self) -> None:
        """Answer queued questions and close the store."""
        self.users.close()
        if self._batcher is not None:
            self._batcher.stop()
        if self._owns_store:
            self.store.close()

    def delete_user(self, user_id: str, api_key: str | None = None) -> DeletedUser:
        """Delete a user from the store, and from the exports that are registered in the served runs."""
        events = self.store.delete_user(user_id, api_key)
        done, left = forget_in_exports(self._runs, [user_id])
        return DeletedUser(user_id=user_id, events=events, exports=done, left=left)

    def export_user(self, user_id: str) -> Iterator[dict[str, Any]]:
        """Return all that is stored about a user, see :func:`personal_data`, and the exports that hold the user.

        The last line holds the number of the others; without it, the export is incomplete.
        """
        kept = personal_data(self.store, user_id, self.titles)
        exports = [folder for run, data in self._runs for folder in exports_with(run, user_id, data)]
        return _counted(chain(kept, ({"kind": "export", "folder": str(folder)} for folder in exports)))

    async def delete_aged(self) -> None:
        """Delete events that exceed the retention age, now and every :data:`AGEING` seconds; never returns."""
        while self._ages:
            try:
                await anyio.to_thread.run_sync(self._delete_aged, limiter=self._ageing)
            except (StoreError, OutputError) as error:
                log.warning("events above the retention age were not deleted: %s", error)
            await anyio.sleep(AGEING)

    def _delete_aged(self) -> None:
        found = self.store.delete_older()
        forget_in_exports(self._runs, found.gone)
        if found.events:
            log.info("deleted %s above the retention age", counted(found.events, "event"))

    def facts(self) -> ModelFacts:
        """Describe the served models and the limits."""
        model, recommender, catalogue = self.users.model, self.users.recommender, self.users.catalogue
        unrated = catalogue.unrated
        told = None if recommender is None else recommender.facts
        known, noun = self.answering.names(), self.item_noun
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
            categories=list(known.categories),
            category_field=known.field,
            item_noun=noun,
            questions=self.answering.askable(noun),
            limits=self.limits.model_dump(),
        )

    @property
    def item_noun(self) -> str:
        """Noun for an item, in the singular."""
        recommender = self.users.recommender
        if recommender is not None:
            return recommender.recommender.facts.item_noun
        return "item" if self._explainer is None else self._explainer.item_noun

    def example(self) -> FirstLook:
        """Choose an example user: a stored user with some events, or else a made-up history."""
        found = self.store.user_with_events(EXAMPLE_EVENTS)
        if found is not None:
            return FirstLook(user_id=found, history=[])
        events = self.items.example(self.users.catalogue.scale)
        return FirstLook(
            user_id=None,
            history=[FirstEvent(**KnownItem.of(item).model_dump(), rating=rating) for item, rating in events],
        )

    def titles(self, item_ids: Sequence[str]) -> list[str | None]:
        """Look up the titles of items, with their years; None for unknown items."""
        return [None if item is None else titled(item) for item in self.items.items(item_ids)]

    async def prepare(self, sent: Sequence[SentQuestion]) -> list[Prepared]:
        """Encode the users of questions for the language model, which is asked without matching them.

        Raises:
            UnknownUserError: A user is not stored.
            DataError: A question is too long, or the model cannot read its history.
        """
        self.limits.check_count("questions", len(sent), self.limits.questions)
        for number, question in enumerate(sent):
            self.limits.check_question(question, f"questions.{number}.")
        return await asyncio.gather(*map(self._prepared, sent))

    async def answering_or_prepared(self, sent: Sequence[SentQuestion]) -> list[Prepared | Said]:
        """Match free-text questions; answer those that scores answer, and prepare the others for the language model.

        Raises:
            QuestionError: No served model can answer a question.
            OverloadedError: Too many requests are waiting.
            UnknownUserError: As :meth:`prepare`.
            DataError: As :meth:`prepare`.
        """
        self.limits.check_count("questions", len(sent), self.limits.questions)

        def work() -> list[Prepared | Said]:
            return [self._matched(number, question) for number, question in enumerate(sent)]

        if any(question.slow for question in sent):
            return await self.encoding(work, slow=True)
        if any(self._in_free_words(question) for question in sent):
            return await self.answering.take(work)
        if all(question.user_id is not None for question in sent):
            return [*await self.prepare(sent)]
        return await self.encoding(work, slow=False)

    async def follow(self) -> None:
        """Drop items that other servers of the store delete, within :data:`FOLLOWING` seconds; never returns."""
        while True:
            await anyio.sleep(FOLLOWING)
            with suppress(StoreError):  # the next iteration retries
                await anyio.to_thread.run_sync(self.users.notice, limiter=self._following)

    async def ready(self) -> None:
        """Check the store and the engine in a thread of its own, so that other requests never delay it.

        Raises:
            StoreError: The store is unavailable or full.
            EngineError: The engine is unreachable or serves other weights.
        """
        await anyio.to_thread.run_sync(self.store.check, limiter=self._checking)
        if self.engine is not None:
            await anyio.to_thread.run_sync(self.engine.check_now, limiter=self._checking)

    @property
    def state(self) -> EngineState | None:
        """State of the engine at the last check; None without an engine."""
        if self.engine is None:
            return None
        settings = self.engine.client.settings
        return EngineState(url=settings.url, model=self.engine.called, checked=self.engine.checked)

    async def parsing(self, work: Callable[[], T]) -> T:
        """Parse a large body in a thread: one at a time and half of the time, as parsing holds the GIL."""
        return await self._parsing.take(work)

    async def encoding(self, work: Callable[[], T], slow: bool) -> T:
        """Run work in a thread; slow work, such as encoding new items or long histories, in a pool of its own.

        Raises:
            OverloadedError: Too many requests wait for that pool.
        """
        if not slow:
            return await run_in_threadpool(work)
        return await self.slow.take(work)

    def _in_free_words(self, sent: SentQuestion) -> bool:
        """Whether a question has to be matched, as it is not the instruction that the model was trained with."""
        model = self.users.model
        trained = None if model is None else model.model.settings.instruction
        return sent.instruction is not None and (
            sent.instruction != trained or bool(sent.item_ids or sent.categories)
        )

    def _matched(self, number: int, sent: SentQuestion) -> Prepared | Said:
        """Match a question, and answer it from scores or prepare it for the language model."""
        place = f"questions.{number}."
        self.limits.check_question(sent, place)
        if sent.instruction is None or not self._in_free_words(sent):
            return self._of_model(sent, self.served.model.settings.instruction)
        asked = self.answering.asked(sent, place)
        if isinstance(asked, AskedOfModel):
            return replace(self._of_model(sent, asked.question), asked=asked.asked)
        version, said = self.answering.answer(sent, asked)
        return Said(said, sent.user_id, version, asked)

    async def _prepared(self, sent: SentQuestion) -> Prepared:
        """Prepare a question for the language model; holds a thread only if it is not the trained one, or is given."""
        trained = self.served.model.settings.instruction
        instruction = sent.instruction or trained
        if sent.user_id is None:
            return await self.encoding(lambda: self._of_model(sent, instruction), slow=sent.slow)
        user_id, encoded = sent.user_id, await self.users.encoded_soon(sent.user_id)
        if instruction == trained:
            return self._of_stored(user_id, encoded, instruction)
        return await run_in_threadpool(self._of_stored, user_id, encoded, instruction)

    def _of_model(self, sent: SentQuestion, instruction: str | Question) -> Prepared:
        """Prepare a question for the language model."""
        if sent.user_id is not None:
            return self._of_stored(sent.user_id, self.users.encoded(sent.user_id), instruction)
        history, items = self.users.given(sent.history or [])
        return Prepared(self.served.asked(history, instruction, items), None, None)

    def _of_stored(
        self, user_id: str, encoded: tuple[Encoded, PromptOrigin], instruction: str | Question
    ) -> Prepared:
        kept, source = encoded
        metrics.prompts.labels(source).inc()
        return Prepared(self.served.asked_of(kept, instruction), user_id, kept.version)


def _counted(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    count = 0
    for line in lines:
        count += 1
        yield line
    yield {"kind": "end", "lines": count}


def _models(settings: ServeSettings) -> tuple[ServedModel | None, ServedRecommender | None]:
    """Load the language model and the recommender, at least one of which is present."""
    if is_recommender(settings.run):
        return None, ServedRecommender(settings.run)
    model = ServedModel(settings.run, settings.backbone, settings.device, settings.data)
    return model, None if settings.recommender is None else ServedRecommender(settings.recommender)


def identities(settings: ServeSettings) -> set[str]:
    """Load the models of these settings, and return the identities under which their encodings are cached."""
    return {one.identity for one in _models(settings) if one is not None}


async def answer_all(batcher: QuestionQueue | None, prepared: Sequence[Prepared | Said]) -> list[GivenAnswer]:
    """Answer questions, in their order; raises :class:`OverloadedError` if the queue is full."""
    _queue(batcher, prepared)
    texts = await asyncio.gather(*map(_text, prepared))
    return [one.given(text) for one, text in zip(prepared, texts, strict=True)]


@dataclass(frozen=True)
class Part:
    """An event of a streamed answer."""

    kind: Literal["piece", "answer", "error"]
    number: int
    """Index of the question in the request."""
    text: str
    """A piece of the answer, the complete answer, or the error."""


def answer_parts(batcher: QuestionQueue | None, prepared: Sequence[Prepared | Said]) -> AsyncIterator[Part]:
    """Answer questions as a stream of pieces, followed for each question by the complete answer.

    Raises:
        OverloadedError: The queue is full; raised at the call, before the first part.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Queue[Part]()

    def tell(part: Part) -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(told.put_nowait, part)

    for number, one in enumerate(prepared):
        if isinstance(one, Said):
            tell(Part("piece", number, one.answer.text))
            tell(Part("answer", number, one.answer.text))
            continue
        one.question.tell = lambda text, number=number: tell(Part("piece", number, text))
        one.question.answer.add_done_callback(lambda answer, number=number: tell(_ended(answer, number)))  # type: ignore[misc]
    _queue(batcher, prepared)
    return _parts(told, prepared)


async def _text(one: Prepared | Said) -> str:
    return one.answer.text if isinstance(one, Said) else await asyncio.wrap_future(one.question.answer)


def _queue(batcher: QuestionQueue | None, prepared: Sequence[Prepared | Said]) -> None:
    """Queue the questions to the language model."""
    if queued := [one.question for one in prepared if isinstance(one, Prepared)]:
        assert batcher is not None, "a language model has prepared them"
        batcher.ask(queued)


def answer_pieces(
    batcher: QuestionQueue | None, prepared: Sequence[Prepared | Said], model: str
) -> AsyncIterator[str]:
    """Stream server-sent events: ``piece``s, an ``answer`` for each question, and ``done``.

    Raises:
        OverloadedError: The queue is full; raised at the call, before the first event.
    """
    return _events(answer_parts(batcher, prepared), prepared, model)


def _ended(answer: Future[str], number: int) -> Part:
    error = None if answer.cancelled() else answer.exception()
    if error is None and not answer.cancelled():
        return Part("answer", number, answer.result())
    said = str(error) if isinstance(error, EngineError) else "the server failed; its log says more"
    return Part("error", number, said)


async def _parts(told: asyncio.Queue[Part], prepared: Sequence[Prepared | Said]) -> AsyncIterator[Part]:
    left = len(prepared)
    try:
        while left:
            part = await told.get()
            left -= part.kind != "piece"
            yield part
    finally:  # the client is gone: cancel the questions that are in no batch yet
        for one in prepared:
            if isinstance(one, Prepared):
                one.question.answer.cancel()


async def _events(
    parts: AsyncIterator[Part], prepared: Sequence[Prepared | Said], model: str
) -> AsyncIterator[str]:
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
