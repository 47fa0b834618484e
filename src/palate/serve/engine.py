"""The served model, thread-safe, and the stored users with their cached encodings."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from itertools import groupby
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
    UnknownUserError,
    rating_off_scale,
    unknown_items,
)
from palate.evaluation.attribution import in_passes
from palate.export.noted import NOTED
from palate.items.table import off_scale
from palate.model.config import CARD, model_folder
from palate.model.history_state import HistoryStates
from palate.model.model import PersonalizedModel
from palate.model.named import find_model
from palate.model.tables import vectors_of
from palate.schema import History, Item, QuestionKind
from palate.serve.batcher import QueuedQuestion
from palate.serve.encoding import ServingEncoder
from palate.serve.groups import GroupWorker
from palate.serve.schemas import GivenEvent, given_history
from palate.serve.store.changes import Appended, Event, ItemsRemovedError
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import Changes, Found, ItemDeletion, StoredHistory, UserStore, unknown_user
from palate.serve.waiting import acquired, committing, committing_here
from palate.system.files import sha256_of
from palate.tasks.questions import Question
from palate.tasks.wordings import WORDINGS

if TYPE_CHECKING:
    from palate.serve.recommending import ServedRecommender

KEPT = b"palate-kept-3"
"""Version of the format of cached encodings; changing it invalidates older ones."""


PASS = 8
"""Batch size for the histories of an attribution; between batches it is checked whether the request was cancelled."""


class ServedModel:
    """A trained model in the server; its methods are thread-safe.

    How histories are read is decided by the model alone (:meth:`PersonalizedModel.encode` and its states). Adding
    items creates a new model object, which replaces ``model`` when it is complete; a request keeps the object that it
    started with.
    """

    def __init__(
        self, run: Path, backbone: str | None = None, device: str = "auto", data: Path | None = None
    ) -> None:
        self.model = self._trained = find_model(run, backbone, data).load(device)
        self.identity = _identity(run, self.model)
        self._extending = (
            threading.RLock()
        )  # serialises writers; readers take no lock, as encoding may be slow
        self._encoder = _encoder_of(self.model)

    @property
    def reads(self) -> int | None:
        """Maximum number of events that the model reads, the most recent ones; None for all."""
        return self.model.max_events

    @cached_property
    def trained_kinds(self) -> tuple[QuestionKind, ...]:
        """Kinds of questions that the language model was trained on; all for the packaged one and its descendants."""
        if self.model.settings.binds or self.model.run is None:
            return tuple(WORDINGS)
        return tuple(self.model.run.recipe.train.questions) or ("preference",)

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Return the item ids that are not in the model's table."""
        return self.model.table.unknown(item_ids)

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """Return the ratings that are not on the model's scale."""
        return off_scale(self.model.table.rating_values, ratings)

    @cached_property
    def scale(self) -> list[float]:
        """Rating scale of the model, ascending."""
        return [float(value) for value in self.model.table.rating_values]

    @property
    def unrated(self) -> Unrated:
        """Value of an event without a rating, or weights of event types; None if a rating is required."""
        return self.model.settings.unrated

    @property
    def repeats(self) -> bool:
        """Whether all events of an item are read, instead of the last one only."""
        return self.model.settings.repeats

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items; raises the errors of :meth:`adding`."""
        with self.adding(items):
            pass

    @contextmanager
    def adding(self, items: Sequence[Item]) -> Iterator[None]:
        """Encode new items, and add them if the block ends without an error.

        Raises:
            DataError: An item is known with another text.
        """
        with acquired(self._extending):
            table = self.model.table
            new = set(table.unknown(item.item_id for item in items))
            known = [item for item in items if item.item_id not in new]
            if known:  # raises if a text differs
                self._knowing([item.item_id for item in known], known)
            extended = self.model.with_items([item for item in items if item.item_id in new], self._encoder)
            yield
            self.model = extended

    @property
    def own_items(self) -> Sequence[str]:
        """Ids of the items of the model's data, without added ones."""
        return self._trained.table.item_ids

    def trained(self, item_ids: Iterable[str]) -> list[str]:
        """Return those of the item ids that belong to the model's data."""
        known = list(item_ids)
        unknown = set(self._trained.table.unknown(known))
        return [item_id for item_id in known if item_id not in unknown]

    def renew(self, items: Sequence[Item], removals: int) -> None:
        """Replace all added items by the given ones."""
        with acquired(self._extending), self._encoder.forgetting():
            new = set(self._trained.table.unknown(item.item_id for item in items))
            self.model = self._trained.with_items(
                [item for item in items if item.item_id in new], self._encoder
            )

    def asked(
        self, history: History, instruction: str | Question, new_items: Sequence[Item] = ()
    ) -> QueuedQuestion:
        """Create a question about a history that is not stored; new items are known to this question only."""
        model = self._knowing(history.item_ids, new_items)
        question = model.question(instruction) if isinstance(instruction, str) else instruction
        return QueuedQuestion(model, model.encode([history]), question)

    def asked_of(self, kept: Encoded, instruction: str | Question) -> QueuedQuestion:
        """Create a question about a stored user; vectors of the question's categories are computed from the state."""
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
        """Encode the user prompts of histories, all over the items of the first one, in batches of :data:`PASS`.

        Returns:
            The model that encodes them, and an iterator over the batches.
        """
        model = self._knowing(histories[0].item_ids, new_items)
        return model, (model.encode(some) for some in in_passes(histories, PASS))

    def view_of(self, history: History, new_items: Sequence[Item] = ()) -> Tensor | None:
        """Compute the user encoder's probabilities [L, 2] of liked and disliked labels; None if it predicts none."""
        logits = self._knowing(history.item_ids, new_items).encode([history]).category_logits
        return None if logits is None else logits[0].sigmoid()

    def encode(self, found: StoredHistory) -> Encoded:
        """Encode a stored history for the cache: the user prompt, and the state of a streaming encoder."""
        model = self.model
        if not model.keeps_state:
            return self._encoded(found.version, model.encode([found.history]))
        state = model.new_state()
        state.add(found.history)
        return self._encoded(found.version, state.user_prompt(), state.to_bytes())

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """Update a cached encoding to the current version, at a cost independent of the history's length.

        Returns:
            The new encoding; None if the whole history has to be encoded, as there is no state or removing events
            from it would be inexact.
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

    def encode_all(self, found: Sequence[StoredHistory]) -> list[Encoded]:
        """Encode stored histories as :meth:`encode` does, those of similar lengths in the same passes."""
        model = self.model
        made: dict[int, Encoded] = {}
        for rows in _of_like_length([one.history for one in found]):
            some = [found[row] for row in rows]
            histories = [one.history for one in some]
            if model.keeps_state:
                states = HistoryStates.empty(model, len(some))
                states.add(histories)
                encoded = self._encoded_all([one.version for one in some], states)
            else:
                prompts = model.encode(histories).each()
                encoded = [self._encoded(one.version, user) for one, user in zip(some, prompts, strict=True)]
            made |= zip(rows, encoded, strict=True)
        return [made[row] for row in range(len(found))]

    def advance_all(self, late: Sequence[tuple[Encoded, Changes]]) -> list[Encoded | None]:
        """Update cached encodings as :meth:`advance` does, in the same passes."""
        if not late:
            return []
        states = HistoryStates.load(self.model, [kept.state for kept, _ in late if kept.state is not None])
        states.add([changes.added for _, changes in late])
        lost: list[int] = []
        if any(len(changes.removed) for _, changes in late):
            try:
                lost = states.remove([changes.removed for _, changes in late])
            except MismatchError:  # of one of them
                return [self.advance(*one) for one in late]
        made: list[Encoded | None] = [*self._encoded_all([changes.version for _, changes in late], states)]
        for row in lost:
            made[row] = None
        return made

    @staticmethod
    def prompt_from(kept: Encoded) -> UserPrompt:
        """Decode the cached user prompt [1, M, E], with the categories to name if the encoder decides on them."""
        found = load(kept.prompt)
        return replace(UserPrompt.of([found["user_prompt"]]), named=found.get("named"))

    def _knowing(self, item_ids: Sequence[str], new_items: Sequence[Item]) -> PersonalizedModel:
        """Return the model over ``item_ids`` and the new items; the model itself if there are no new items."""
        model = self.model
        if not new_items:
            return model
        named = (*item_ids, *(item.item_id for item in new_items))
        return model.with_table(model.table.part(named)).with_items(new_items, self._encoder)

    def _encoded_all(self, versions: Sequence[int], states: HistoryStates) -> list[Encoded]:
        each = zip(versions, states.user_prompts(), states.to_bytes(), strict=True)
        return [self._encoded(*one) for one in each]

    def _encoded(self, version: int, user: UserPrompt, state: bytes | None = None) -> Encoded:
        made = {"model": self.identity, "version": str(version)}
        tensors = {"user_prompt": user.split()[0].cpu().contiguous()}
        if user.named is not None:
            tensors["named"] = user.named.cpu().contiguous()
        return Encoded(version, save(tensors, made), state)


def _of_like_length(histories: Sequence[History]) -> Iterator[list[int]]:
    """Yield indices of histories whose lengths differ by less than a factor of 2, which bounds padding."""
    rows = sorted(range(len(histories)), key=lambda row: len(histories[row]))
    for _, some in groupby(rows, key=lambda row: len(histories[row]).bit_length()):
        yield list(some)


def _encoder_of(model: PersonalizedModel) -> ServingEncoder:
    """Create the encoder of new items: that of the model's item vectors, or else the default one, for titles."""
    vectors = vectors_of(model.table)
    if vectors is None:
        return ServingEncoder(ItemSettings(), model.device)
    return ServingEncoder.of(vectors.encoder, model.device)


def _identity(run: Path, model: PersonalizedModel) -> str:
    """Return the SHA-256 of all that encodings depend on: the model's files and the population it is bound to."""
    digest = digest_of_files(model_folder(run), KEPT)
    if model.settings.binds:
        digest.update(f"{model.settings.model_dump_json()} {model.summary.digest}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def digest_of_files(folder: Path, kind: bytes) -> hashlib._Hash:
    """Hash a model's files; ``kind`` separates digests of different purpose.

    Its card, its list of exports and a user store in the folder are left out.
    """
    digest = hashlib.sha256(kind)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (CARD, NOTED) and ".sqlite" not in path.name:
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest


FEW = 100
"""Maximum number of events that are validated on the event loop; more are validated in a thread."""

GROUP = 32
"""Maximum number of users whose encodings are brought up to date in the same passes."""
LONG = 1_000
"""Maximum length of a history that is encoded with others; a longer one takes a thread of its own."""

PromptOrigin: TypeAlias = Literal["kept", "advanced", "anew"]
"""Origin of a user prompt: cached, updated from the cached state, or encoded from the whole history."""

MOST_KEPT = 2**20
"""Maximum size of a cached user prompt, in bytes. Text histories are larger, and cheap to encode."""


class ServedCatalogue(Protocol):
    """Protocol of served models as seen by the store's events: their items and rating scale."""

    @property
    def scale(self) -> list[float]:
        """Rating scale, ascending."""

    @property
    def unrated(self) -> Unrated:
        """Value of an event without a rating, or weights of event types; None if a rating is required."""

    @property
    def repeats(self) -> bool:
        """Whether all events of an item are read, instead of the last one only."""

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Return the item ids that are not known."""

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """Return the ratings that are not on the scale."""

    def adding(self, items: Sequence[Item]) -> AbstractContextManager[None]:
        """Check new items, and add them if the block ends without an error."""

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items."""

    @property
    def own_items(self) -> Sequence[str]:
        """Ids of the items of the model's data, without added ones."""

    def trained(self, item_ids: Iterable[str]) -> list[str]:
        """Return those of the item ids that belong to the model's data."""

    def renew(self, items: Sequence[Item], removals: int) -> None:
        """Replace all added items by the given ones; ``removals`` is the store's count of deletions of items."""


class Encoding(Protocol):
    """Protocol of models that encode stored histories for the store's cache."""

    @property
    def identity(self) -> str:
        """Digest of all that the encodings depend on, the cache key."""

    @property
    def reads(self) -> int | None:
        """Maximum number of events that are read, the most recent ones; None for all."""

    def encode(self, found: StoredHistory) -> Encoded:
        """Encode a stored history."""

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """Update an encoding by the changes; None if the whole history has to be encoded."""


def _add_new(served: ServedCatalogue, items: Sequence[Item]) -> bool:
    """Add the items that a model does not know; returns whether there were any."""
    new = set(served.unknown(item.item_id for item in items))
    served.add_items([item for item in items if item.item_id in new])
    return bool(new)


class Users:
    """The stored users: adds events and items, and computes cached encodings.

    Args:
        served: The language model, whose items and rating scale apply; None if only a recommender is served.
        store: The user store.
        recommender: The recommender, whose items and rating scale apply without a language model.
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
        self._encoder: GroupWorker[str, tuple[Encoded, PromptOrigin] | None] = GroupWorker(
            self._encoded_together, lambda _: 1, GROUP, "palate-users"
        )
        self.refresh_items()

    @property
    def served(self) -> ServedModel:
        """The language model; raises :class:`NotServedError` without one."""
        if self.model is None:
            raise NotServedError(
                "this server has a recommender and no language model: POST /recommendations, /ratings and /choices; "
                "for other requests start  palate serve RUN --recommender RUN2  with RUN the run of a language model"
            )
        return self.model

    async def append(self, sent: Mapping[str, Sequence[Event]]) -> dict[str, Appended]:
        """Add events by user id, all or none, in a transaction shared with concurrent requests.

        Raises the errors of :meth:`check` and :meth:`UserStore.append`.
        """
        events = [event for of_user in sent.values() for event in of_user]
        item_ids, ratings = [event.item_id for event in events], [event.rating for event in events]
        while True:
            removals = self._removals
            if len(events) > FEW or self.catalogue.unknown(item_ids):
                await run_in_threadpool(self.check, item_ids, ratings)
            else:  # needs no access to the store
                self.check(item_ids, ratings)
            await committing_here()
            try:
                return await asyncio.wrap_future(self.store.appending(sent, removals))
            except ItemsRemovedError:  # by another server
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

        Raises:
            DataError: As :meth:`check`.
            ConflictError: An item id has different texts.
        """
        history, items = given_history(events, self.catalogue.unrated, self.catalogue.repeats)
        self.check(history.item_ids, history.ratings, items)
        return history, items

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items, for all servers of this store.

        Raises:
            DataError: An item is known to the model with another text.
            ConflictError: An item is stored with another text.
        """
        if items:
            self.refresh_items()
            with self.catalogue.adding(items):
                committing()
                self.store.add_items(items)
            self.refresh_items()

    def delete_items(self, item_ids: Sequence[str], api_key: str | None = None) -> ItemDeletion:
        """Delete added items, and all users' events about them, for all servers of this store.

        Raises:
            DataError: An item belongs to the model's data.
        """
        if kept := self.catalogue.trained(item_ids):
            raise DataError(
                f"item_id: {kept[0]!r} is an item of the model's data, expected items that were added with POST "
                "/items; delete users' events about it with DELETE /users/{user_id}/events"
            )
        committing()
        deleted = self.store.delete_items(item_ids, api_key)
        self.notice()
        return deleted

    def at_removal(self, forget: Callable[[], None]) -> None:
        """Register a callback for deletions of added items, by this or another server of the store."""
        self._at_removal.append(forget)

    def notice(self) -> None:
        """Drop the items that have been deleted from the store; cheap if there are none."""
        if self.store.removals() != self._removals:
            self.refresh_items()

    def refresh_items(self) -> bool:
        """Load the items that were added since the last call, and drop deleted ones.

        Added items that a newer model has in its own data keep the texts of that data.

        Returns:
            Whether the known items changed.
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
            # set last, so that a request that is cancelled above leaves the items to the next one
            self._items, self._removals = found.last, found.removals
            return any(learned)

    def encoded(self, user_id: str) -> tuple[Encoded, PromptOrigin]:
        """Return the language model's encoding of a stored user, see :meth:`encoded_by`.

        Raises:
            UnknownUserError: The user is not stored.
            NotServedError: There is no language model.
        """
        return self.encoded_by(self.served, user_id)

    async def encoded_soon(self, user_id: str) -> tuple[Encoded, PromptOrigin]:
        """Do what :meth:`encoded` does without holding a thread, in the same passes as for others who wait."""
        found = await asyncio.wrap_future(self._encoder.submit(user_id))
        return await run_in_threadpool(self.encoded, user_id) if found is None else found

    def close(self) -> None:
        """Encode the users who wait and stop."""
        self._encoder.stop()

    def encoded_by(
        self, encoding: Encoding, user_id: str, wait: bool = False
    ) -> tuple[Encoded, PromptOrigin]:
        """Return a model's encoding of a stored user from the cache, brought up to date with the history's version.

        Args:
            encoding: The model.
            user_id: The user.
            wait: Whether to return only when the cache has been written, instead of letting that follow.

        Raises:
            UnknownUserError: The user is not stored.
        """
        read = self.store.encoded(user_id, encoding.identity)
        key, version, kept, removals = read
        if removals != self._removals:
            self.refresh_items()
            return self.encoded_by(encoding, user_id, wait)
        if kept is not None and kept.version >= version:
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
            read, made, source = read._replace(key=found.key), encoding.encode(found), "anew"
        written = self._keep(encoding, read, made)
        if wait and written is not None:
            with suppress(StoreError):
                written.result()
        return made, source

    def _encoded_together(
        self, user_ids: Sequence[str]
    ) -> list[tuple[Encoded, PromptOrigin] | UnknownUserError | None]:
        """Return the language model's encodings of stored users; None for those that have to be encoded alone."""
        served = self.served
        read = self.store.to_encode(set(user_ids), served.identity, served.reads, LONG)
        made: dict[str, tuple[Encoded, PromptOrigin] | None] = dict.fromkeys(read)
        ready = {
            name: one
            for name, one in read.items()
            if one.found.removals == self._removals and not self.catalogue.unknown(one.item_ids)
        }
        late = {name: changed for name, one in ready.items() if (changed := one.changed) is not None}
        whole = {name: one.history for name, one in ready.items() if one.history is not None}
        anew = served.encode_all([*whole.values()])
        made |= {name: (kept, "kept") for name, one in ready.items() if (kept := one.current) is not None}
        made |= {name: (one, "anew") for name, one in zip(whole, anew, strict=True)}
        advanced = served.advance_all([*late.values()])
        made |= {name: (one, "advanced") for name, one in zip(late, advanced, strict=True) if one is not None}
        for name, one in made.items():
            if one is not None and one[1] != "kept":
                self._keep(served, read[name].found, one[0])
        return [made[name] if name in made else unknown_user(name) for name in user_ids]

    def _keep(self, encoding: Encoding, read: Found, made: Encoded) -> Future[None] | None:
        """Have an encoding cached behind the request; None if it is too large, or too many wait."""
        if len(made.prompt) <= MOST_KEPT and not self.store.behind:
            with suppress(StoreError):  # the cache is optional; the request can be answered without it
                return self.store.keep(read.key, encoding.identity, made, read.removals)
        return None

    def learn(self, item_ids: Sequence[str]) -> list[str]:
        """Return the ids of unknown items, after loading the items that other servers have added."""
        unknown = self.catalogue.unknown(item_ids)
        return self.catalogue.unknown(unknown) if unknown and self.refresh_items() else unknown
