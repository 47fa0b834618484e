"""The engine: the model that a server answers with, and the stored users whose prompts it makes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from safetensors.torch import load, save
from torch import Tensor

from palate.errors import MismatchError, StoreError, rating_off_scale, unknown_items
from palate.evaluation.attribution import in_passes
from palate.items.table import off_scale
from palate.model.config import CARD, model_folder
from palate.model.model import PersonalizedModel, load_model
from palate.schema import History, Item
from palate.serve.schemas import GivenEvent, given_history
from palate.serve.store.changes import Appended, Event
from palate.serve.store.store import Changes, Encoded, StoredHistory, UserStore
from palate.system.files import sha256_of

KEPT = b"palate-kept-2"
"""Changes with the meaning of what is kept, so that what an older palate kept is made again."""


class ServedModel:
    """A trained model beside what a server has to know of it; its methods may be called from any thread.

    What is read of a history, and how, is the model's alone (:meth:`PersonalizedModel.encode` and its states). A
    model with more items is another model, which takes this one's place when it is whole: a reader keeps the one
    that it began with.
    """

    def __init__(self, run: Path, backbone: str | None = None, device: str = "auto") -> None:
        self.model = load_model(run, backbone, device=device)
        self.identity = _identity(run)
        self._extending = threading.RLock()  # encoding items may take long, and readers need not wait for it

    @property
    def reads(self) -> int | None:
        """How many of a history's events the model reads, the most recent ones; all where it is None."""
        return self.model.max_events

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Those of these items that the model does not know."""
        return self.model.table.unknown(item_ids)

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """Those of these ratings that the model does not know."""
        return off_scale(self.model.table.rating_values, ratings)

    @cached_property
    def scale(self) -> list[float]:
        """The ratings that the model knows, ascending."""
        return [float(value) for value in self.model.table.rating_values]

    def add_items(self, items: Sequence[Item]) -> None:
        """Let histories name new items; raises what :meth:`adding` raises."""
        with self.adding(items):
            pass

    @contextmanager
    def adding(self, items: Sequence[Item]) -> Iterator[None]:
        """Encode new items from their texts, and let histories name them when the block ends without an error.

        Raises :class:`DataError` for an item that is known with other texts.
        """
        with self._extending:
            table = self.model.table
            new = set(table.unknown(item.item_id for item in items))
            known = [item for item in items if item.item_id not in new]
            if known:  # checked against what is known of them alone
                self._knowing([item.item_id for item in known], known)
            extended = self.model.with_items([item for item in items if item.item_id in new])
            yield
            self.model = extended

    def prompt_of(self, history: History, new_items: Sequence[Item] = ()) -> Tensor:
        """The user prompt [M, E] of a history that is not stored, whose new items are known in it alone."""
        return self._knowing(history.item_ids, new_items).encode([history]).split()[0]

    def prompts_of(
        self, histories: Sequence[History], new_items: Sequence[Item] = ()
    ) -> Iterator[list[Tensor]]:
        """The user prompts [M, E] of histories that have no more items than the first, pass by pass."""
        model = self._knowing(histories[0].item_ids, new_items)
        for some in in_passes(histories):
            yield model.encode(some).split()

    def view_of(self, history: History, new_items: Sequence[Item] = ()) -> Tensor | None:
        """The chances that each label is liked and disliked as the user encoder sees it, [L, 2], if it has a view."""
        logits = self._knowing(history.item_ids, new_items).encode([history]).category_logits
        return None if logits is None else logits[0].sigmoid()

    def encode(self, found: StoredHistory) -> Encoded:
        """What is kept of a stored history: its user prompt, and its state where the encoder has one."""
        model = self.model
        if model.max_events is not None:
            return self._encoded(found.version, model.encode([found.history]).split()[0])
        state = model.new_state()
        state.add(found.history)
        return self._encoded(found.version, state.prompt(), state.to_bytes())

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """What was kept of an older version, brought up to date at a cost that does not depend on the history.

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
        return self._encoded(changes.version, state.prompt(), state.to_bytes())

    @staticmethod
    def prompt_from(kept: Encoded) -> Tensor:
        """The user prompt [M, E] that was kept."""
        return load(kept.prompt)["user_prompt"]

    def _knowing(self, item_ids: Sequence[str], new_items: Sequence[Item]) -> PersonalizedModel:
        """The model with new items beside those of ``item_ids``; without new items, as it is."""
        model = self.model
        if not new_items:
            return model
        named = (*item_ids, *(item.item_id for item in new_items))
        return model.with_table(model.table.part(named)).with_items(new_items)

    def _encoded(self, version: int, prompt: Tensor, state: bytes | None = None) -> Encoded:
        made = {"model": self.identity, "version": str(version)}
        return Encoded(version, save({"user_prompt": prompt.cpu().contiguous()}, made), state)


def _identity(run: Path) -> str:
    """sha256 over all that a saved model computes with, so that nothing made by another is taken for its own."""
    folder = model_folder(run)
    digest = hashlib.sha256(KEPT)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CARD:
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


PromptOrigin: TypeAlias = Literal["kept", "advanced", "anew"]
"""Where a user prompt came from: it was there, or made from the last state, or from the whole history."""

MOST_KEPT = 2**20
"""Bytes of a user prompt that is kept. Histories as text are larger, and made again in no time."""


class Users:
    """A store and the model that reads it."""

    def __init__(self, served: ServedModel, store: UserStore) -> None:
        self.served, self.store = served, store
        self._items, self._refreshing = 0, threading.Lock()
        self.refresh_items()

    def append(self, sent: Mapping[str, Sequence[Event]]) -> dict[str, Appended]:
        """Take in events by user id, all or none.

        Raises what :meth:`check` and :meth:`UserStore.append` raise.
        """
        events = [event for of_user in sent.values() for event in of_user]
        self.check([event.item_id for event in events], [event.rating for event in events])
        return self.store.append(sent)

    def check(
        self, item_ids: Sequence[str], ratings: Sequence[float], new_items: Sequence[Item] = ()
    ) -> None:
        """Raise :class:`DataError` for items that are neither known nor new, and for ratings off the scale."""
        given = {item.item_id for item in new_items}
        asked = [item_id for item_id in item_ids if item_id not in given]
        if unknown := self.learn(asked):
            raise unknown_items(unknown)
        if wrong := self.served.off_scale(ratings):
            raise rating_off_scale(wrong[0], self.served.scale)

    def given(self, events: Sequence[GivenEvent]) -> tuple[History, list[Item]]:
        """A history that is not stored, and the items that it brings.

        Raises what :meth:`check` raises, and :class:`ConflictError` for one item id with different texts.
        """
        history, items = given_history(events, self.served.model.settings.unrated)
        self.check(history.item_ids, history.ratings, items)
        return history, items

    def add_items(self, items: Sequence[Item]) -> None:
        """Let histories name new items, here and in every server of this store.

        Raises :class:`DataError` or :class:`ConflictError` for an item that is known with other texts.
        """
        if items:
            self.refresh_items()
            with self.served.adding(items):
                self.store.add_items(items)

    def refresh_items(self) -> bool:
        """Learn the items that others have added since the last time; whether there were any.

        What a newer model has in its own table stays as it is there.
        """
        with self._refreshing:
            items, self._items = self.store.items(self._items)
            new = set(self.served.unknown(item.item_id for item in items))
            self.served.add_items([item for item in items if item.item_id in new])
            return bool(new)

    def encoded(self, user_id: str) -> tuple[Encoded, PromptOrigin]:
        """The user prompt of all that is stored now; kept with the history's version, so that it is made once.

        Raises :class:`UnknownUserError`.
        """
        key, version, kept = self.store.encoded(user_id, self.served.identity)
        if kept is not None and kept.version == version:
            return kept, "kept"
        source: PromptOrigin = "advanced"
        made = None
        if kept is not None and kept.state is not None:
            changes = self.store.changes(key, kept.version)
            if changes is not None:
                self.learn(changes.added.item_ids)
                made = self.served.advance(kept, changes)
        if made is None:
            found = self.store.history(user_id, self.served.reads)
            self.learn(found.history.item_ids)
            key, made, source = found.key, self.served.encode(found), "anew"
        if len(made.prompt) <= MOST_KEPT:
            with suppress(StoreError):  # it can be made again, and there is an answer to give
                self.store.keep(key, self.served.identity, made)
        return made, source

    def learn(self, item_ids: Sequence[str]) -> list[str]:
        """Those of these items that are not known, even after asking the store for what others have added."""
        unknown = self.served.unknown(item_ids)
        return self.served.unknown(unknown) if unknown and self.refresh_items() else unknown
