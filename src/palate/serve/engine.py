"""The engine: a thread-safe model and the cached prompts of stored users."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from safetensors.torch import load, save
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from palate.config.recipe import ItemSettings
from palate.data.event_types import Unrated
from palate.encoders.base import UserPrompt
from palate.errors import (
    DataError,
    MismatchError,
    NotServedError,
    StoreError,
    rating_off_scale,
    unknown_items,
)
from palate.evaluation.attribution import in_passes
from palate.export.noted import NOTED
from palate.items.table import off_scale
from palate.model.config import CARD, model_folder
from palate.model.model import PersonalizedModel
from palate.model.named import find_model
from palate.model.tables import vectors_of
from palate.schema import History, Item, QuestionKind
from palate.serve.batcher import QueuedQuestion
from palate.serve.encoding import ServingEncoder
from palate.serve.schemas import GivenEvent, given_history
from palate.serve.store.changes import Appended, Event, ItemsRemovedError
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import Changes, ItemDeletion, StoredHistory, UserStore
from palate.serve.waiting import acquired, committing, committing_here
from palate.system.files import sha256_of
from palate.tasks.questions import Question
from palate.tasks.wordings import WORDINGS

if TYPE_CHECKING:
    from palate.serve.recommending import ServedRecommender

KEPT = b"palate-kept-3"
"""Version of the cached encodings; changing it invalidates those of earlier versions."""


PASS = 8
"""Histories of an attribution that are encoded between two checks whether it is still waited for."""


class ServedModel:
    """A trained model as served; its methods are thread-safe.

    What is read of a history, and how, is the model's alone (:meth:`PersonalizedModel.encode` and its states). A
    model with more items is another model, which takes this one's place when it is whole: a reader keeps the one
    that it began with.
    """

    def __init__(
        self, run: Path, backbone: str | None = None, device: str = "auto", data: Path | None = None
    ) -> None:
        self.model = self._trained = find_model(run, backbone, data).load(device)
        self.identity = _identity(run, self.model)
        self._extending = threading.RLock()  # encoding items may take long, and readers need not wait for it
        self._encoder = _encoder_of(self.model)

    @property
    def reads(self) -> int | None:
        """Maximum number of events that the model reads, the most recent ones; None for all."""
        return self.model.max_events

    @cached_property
    def trained_kinds(self) -> tuple[QuestionKind, ...]:
        """Kinds of questions that the language model was trained on; all for one that started as the packaged one."""
        if self.model.settings.binds or self.model.run is None:
            return tuple(WORDINGS)
        return tuple(self.model.run.recipe.train.questions) or ("preference",)

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """List the items that the model does not know."""
        return self.model.table.unknown(item_ids)

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """List the ratings that are not on the model's scale."""
        return off_scale(self.model.table.rating_values, ratings)

    @cached_property
    def scale(self) -> list[float]:
        """Rating scale of the model, ascending."""
        return [float(value) for value in self.model.table.rating_values]

    @property
    def unrated(self) -> Unrated:
        """What an event without a rating weighs; None where it needs one."""
        return self.model.settings.unrated

    @property
    def repeats(self) -> bool:
        """Whether each of a user's events of an item is read, not the last alone."""
        return self.model.settings.repeats

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items; raises the errors of :meth:`adding`."""
        with self.adding(items):
            pass

    @contextmanager
    def adding(self, items: Sequence[Item]) -> Iterator[None]:
        """Encode new items, and add them if the block ends without an error.

        Raises :class:`DataError` for an item that is known with other texts.
        """
        with acquired(self._extending):
            table = self.model.table
            new = set(table.unknown(item.item_id for item in items))
            known = [item for item in items if item.item_id not in new]
            if known:  # checked against what is known of them alone
                self._knowing([item.item_id for item in known], known)
            extended = self.model.with_items([item for item in items if item.item_id in new], self._encoder)
            yield
            self.model = extended

    @property
    def own_items(self) -> Sequence[str]:
        """Items that the model was trained with, or that its data has."""
        return self._trained.table.item_ids

    def trained(self, item_ids: Iterable[str]) -> list[str]:
        """List those of some items that are the model's own."""
        known = list(item_ids)
        unknown = set(self._trained.table.unknown(known))
        return [item_id for item_id in known if item_id not in unknown]

    def renew(self, items: Sequence[Item], removals: int) -> None:
        """Know no other added items than these."""
        with acquired(self._extending), self._encoder.forgetting():
            new = set(self._trained.table.unknown(item.item_id for item in items))
            self.model = self._trained.with_items(
                [item for item in items if item.item_id in new], self._encoder
            )

    def asked(
        self, history: History, instruction: str | Question, new_items: Sequence[Item] = ()
    ) -> QueuedQuestion:
        """Ask about a history that is not stored, with new items that are not added."""
        model = self._knowing(history.item_ids, new_items)
        question = model.question(instruction) if isinstance(instruction, str) else instruction
        return QueuedQuestion(model, model.encode([history]), question)

    def asked_of(self, kept: Encoded, instruction: str | Question) -> QueuedQuestion:
        """Ask about a cached encoding; vectors of categories that are asked about are computed from its state."""
        model = self.model
        question = model.question(instruction) if isinstance(instruction, str) else instruction
        if question.entities and kept.state is not None:
            user = model.load_state(kept.state).user_prompt()
        else:
            user = self.prompt_from(kept)
        return QueuedQuestion(model, user, question)

    def prompts_of(
        self, histories: Sequence[History], new_items: Sequence[Item] = ()
    ) -> tuple[PersonalizedModel, Iterator[UserPrompt]]:
        """Encode the user prompts of histories over the first one's items, pass by pass.

        Returns:
            The model that encodes them, and the passes.
        """
        model = self._knowing(histories[0].item_ids, new_items)
        return model, (model.encode(some) for some in in_passes(histories, PASS))

    def view_of(self, history: History, new_items: Sequence[Item] = ()) -> Tensor | None:
        """Compute the user encoder's probabilities of each label, liked and disliked, [L, 2]; None if it has none."""
        logits = self._knowing(history.item_ids, new_items).encode([history]).category_logits
        return None if logits is None else logits[0].sigmoid()

    def encode(self, found: StoredHistory) -> Encoded:
        """Encode a stored history for the cache: its user prompt, and its state if the encoder keeps one."""
        model = self.model
        if not model.keeps_state:
            return self._encoded(found.version, model.encode([found.history]))
        state = model.new_state()
        state.add(found.history)
        return self._encoded(found.version, state.user_prompt(), state.to_bytes())

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """Update a cached encoding to the current version, at a cost that does not depend on the history.

        None where only the whole history can tell: without a state, or when rounding would show.
        """
        if kept.state is None:
            return None
        state = self.model.load_state(kept.state)
        state.add(changes.added)
        if len(changes.removed):
            try:
                state.remove(changes.removed)
            except MismatchError:
                return None
        return self._encoded(changes.version, state.user_prompt(), state.to_bytes())

    @staticmethod
    def prompt_from(kept: Encoded) -> UserPrompt:
        """Decode the cached user prompt [1, M, E], with the names decided on."""
        found = load(kept.prompt)
        return replace(UserPrompt.of([found["user_prompt"]]), named=found.get("named"))

    def _knowing(self, item_ids: Sequence[str], new_items: Sequence[Item]) -> PersonalizedModel:
        """Return the model with the new items among ``item_ids``; the model itself without new items."""
        model = self.model
        if not new_items:
            return model
        named = (*item_ids, *(item.item_id for item in new_items))
        return model.with_table(model.table.part(named)).with_items(new_items, self._encoder)

    def _encoded(self, version: int, user: UserPrompt, state: bytes | None = None) -> Encoded:
        made = {"model": self.identity, "version": str(version)}
        tensors = {"user_prompt": user.split()[0].cpu().contiguous()}
        if user.named is not None:
            tensors["named"] = user.named.cpu().contiguous()
        return Encoded(version, save(tensors, made), state)


def _encoder_of(model: PersonalizedModel) -> ServingEncoder:
    """Create the encoder of new items: that of the model's vectors, or the default one for its probe on titles."""
    vectors = vectors_of(model.table)
    if vectors is None:
        return ServingEncoder(ItemSettings(), model.device)
    return ServingEncoder.of(vectors.encoder, model.device)


def _identity(run: Path, model: PersonalizedModel) -> str:
    """Return the sha256 of everything that a model's encodings depend on, with the population that it is bound to."""
    digest = digest_of_files(model_folder(run), KEPT)
    if model.settings.binds:
        digest.update(f"{model.settings.model_dump_json()} {model.summary.digest}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def digest_of_files(folder: Path, kind: bytes) -> hashlib._Hash:
    """Digest a model's files, but for its card and its exports; ``kind`` tells apart what is made of them."""
    digest = hashlib.sha256(kind)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (CARD, NOTED):
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest


FEW = 100
"""Events that are checked on the event loop; more of them in a thread."""

PromptOrigin: TypeAlias = Literal["kept", "advanced", "anew"]
"""Origin of a user prompt: cached, updated from the last state, or encoded from the whole history."""

MOST_KEPT = 2**20
"""Maximum size of a cached user prompt in bytes. Text histories are larger, and cheap to encode."""


class ServedCatalogue(Protocol):
    """What a served model knows of items and ratings."""

    @property
    def scale(self) -> list[float]:
        """Rating scale, ascending."""

    @property
    def unrated(self) -> Unrated:
        """What an event without a rating weighs; None where it needs one."""

    @property
    def repeats(self) -> bool:
        """Whether each of a user's events of an item is read, not the last alone."""

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """List the items that are not known."""

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """List the ratings that are not on the scale."""

    def adding(self, items: Sequence[Item]) -> AbstractContextManager[None]:
        """Check new items, and add them if the block ends without an error."""

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items."""

    @property
    def own_items(self) -> Sequence[str]:
        """Items that the model was trained with, or that its data has."""

    def trained(self, item_ids: Iterable[str]) -> list[str]:
        """List those of some items that are the model's own."""

    def renew(self, items: Sequence[Item], removals: int) -> None:
        """Know no other added items than these, which are left after a number of deletions."""


class Encoding(Protocol):
    """What makes the encodings of stored histories that the store keeps."""

    @property
    def identity(self) -> str:
        """Digest of everything that the encodings depend on."""

    @property
    def reads(self) -> int | None:
        """Maximum number of events that are read, the most recent ones; None for all."""

    def encode(self, found: StoredHistory) -> Encoded:
        """Encode a stored history."""

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """Update an encoding; None where only the whole history can tell."""


def _add_new(served: ServedCatalogue, items: Sequence[Item]) -> bool:
    """Add the items that a model does not know, in their order; returns whether there were any."""
    new = set(served.unknown(item.item_id for item in items))
    served.add_items([item for item in items if item.item_id in new])
    return bool(new)


class Users:
    """Stored users, and the model that knows their items and encodes them.

    With a recommender alone that is the recommender.
    """

    def __init__(
        self, served: ServedModel | None, store: UserStore, recommender: ServedRecommender | None = None
    ) -> None:
        catalogue = served or recommender
        assert catalogue is not None
        self.catalogue: ServedCatalogue = catalogue
        self.model, self.recommender, self.store = served, recommender, store
        self._items, self._refreshing = 0, threading.Lock()
        self._removals = 0
        self._at_removal: list[Callable[[], None]] = []
        self.refresh_items()

    @property
    def served(self) -> ServedModel:
        """The language model; raises :class:`NotServedError` where a recommender is served alone."""
        if self.model is None:
            raise NotServedError(
                "this server has a recommender and no language model: POST /recommendations, /ratings and /choices; "
                "for the rest start  palate serve RUN --recommender RUN2  with the run of a language model first"
            )
        return self.model

    async def append(self, sent: Mapping[str, Sequence[Event]]) -> dict[str, Appended]:
        """Add events by user id, all or none, in a transaction with those of other requests that wait.

        Raises what :meth:`check` and :meth:`UserStore.append` raise.
        """
        events = [event for of_user in sent.values() for event in of_user]
        item_ids, ratings = [event.item_id for event in events], [event.rating for event in events]
        while True:
            removals = self._removals
            if len(events) > FEW or self.catalogue.unknown(item_ids):
                await run_in_threadpool(self.check, item_ids, ratings)
            else:  # nothing has to be read for it
                self.check(item_ids, ratings)
            await committing_here()
            try:
                return await asyncio.wrap_future(self.store.appending(sent, removals))
            except ItemsRemovedError:  # another server did that
                await run_in_threadpool(self.refresh_items)

    def check(
        self, item_ids: Sequence[str], ratings: Sequence[float], new_items: Sequence[Item] = ()
    ) -> None:
        """Raise :class:`DataError` for items that are neither known nor new, and for ratings off the scale."""
        given = {item.item_id for item in new_items}
        asked = [item_id for item_id in item_ids if item_id not in given]
        if unknown := self.learn(asked):
            raise unknown_items(unknown)
        if wrong := self.catalogue.off_scale(ratings):
            raise rating_off_scale(wrong[0], self.catalogue.scale)

    def given(self, events: Sequence[GivenEvent]) -> tuple[History, list[Item]]:
        """Create a history that is not stored, and its new items.

        Raises what :meth:`check` raises, and :class:`ConflictError` for one item id with different texts.
        """
        history, items = given_history(events, self.catalogue.unrated, self.catalogue.repeats)
        self.check(history.item_ids, history.ratings, items)
        return history, items

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items, for all servers of this store.

        Raises :class:`DataError` or :class:`ConflictError` for an item that is known with other texts.
        """
        if items:
            self.refresh_items()
            with self.catalogue.adding(items):
                committing()
                self.store.add_items(items)
            self.refresh_items()

    def delete_items(self, item_ids: Sequence[str], api_key: str | None = None) -> ItemDeletion:
        """Delete added items, and all users' events about them, for all servers of this store.

        Raises :class:`DataError` for an item that the model itself knows.
        """
        if kept := self.catalogue.trained(item_ids):
            raise DataError(
                f"item_id: {kept[0]!r} is an item of the data that the model was trained on, expected items of POST "
                "/items; delete users' events of it with DELETE /users/{user_id}/events"
            )
        committing()
        deleted = self.store.delete_items(item_ids, api_key)
        self.notice()
        return deleted

    def at_removal(self, forget: Callable[[], None]) -> None:
        """Call something after added items have been deleted, by this server or by another one of the store."""
        self._at_removal.append(forget)

    def notice(self) -> None:
        """Forget the items that have been deleted from the store; costs little where there are none."""
        if self.store.removals() != self._removals:
            self.refresh_items()

    def refresh_items(self) -> bool:
        """Load the items that were added since the last call, and forget deleted ones; returns whether some are new.

        What a newer model has in its own table stays as it is there.
        """
        with acquired(self._refreshing):
            found = self.store.items(self._items)
            served = [one for one in (self.model, self.recommender) if one is not None]
            if found.removals != self._removals:
                found = self.store.items()
                for one in served:
                    one.renew(found.items, found.removals)
                for forget in self._at_removal:
                    forget()
                learned = [True]
            else:
                learned = [_add_new(one, found.items) for one in served]
            # not before: a request that ends above leaves the items to the next one
            self._items, self._removals = found.last, found.removals
            return any(learned)

    def encoded(self, user_id: str) -> tuple[Encoded, PromptOrigin]:
        """Get the user prompt of all stored events, cached by the history's version.

        Raises :class:`UnknownUserError`, and :class:`NotServedError` without a language model.
        """
        return self.encoded_by(self.served, user_id)

    def encoded_by(self, encoding: Encoding, user_id: str) -> tuple[Encoded, PromptOrigin]:
        """Get an encoding of all stored events, cached by the history's version.

        Raises :class:`UnknownUserError`.
        """
        key, version, kept, removals = self.store.encoded(user_id, encoding.identity)
        if removals != self._removals:
            self.refresh_items()
            return self.encoded_by(encoding, user_id)
        if kept is not None and kept.version == version:
            return kept, "kept"
        source: PromptOrigin = "advanced"
        made = None
        if kept is not None and kept.state is not None:
            changes = self.store.changes(key, kept.version)
            if changes is not None:
                self.learn(changes.added.item_ids)
                made = encoding.advance(kept, changes)
        if made is None:
            found = self.store.history(user_id, encoding.reads)
            self.learn(found.history.item_ids)
            key, made, source = found.key, encoding.encode(found), "anew"
        if len(made.prompt) <= MOST_KEPT:
            with suppress(StoreError):  # it can be made again, and there is an answer to give
                self.store.keep(key, encoding.identity, made, removals)
        return made, source

    def learn(self, item_ids: Sequence[str]) -> list[str]:
        """List the unknown items, after loading those that others have added."""
        unknown = self.catalogue.unknown(item_ids)
        return self.catalogue.unknown(unknown) if unknown and self.refresh_items() else unknown
