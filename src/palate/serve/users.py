"""Users as a server knows them: their stored histories, and the user prompts that a model makes of those."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

from palate.errors import DataError, StoreError
from palate.schema import History, Item
from palate.serve.engine import ServedModel
from palate.serve.schemas import GivenEvent, given_history
from palate.serve.store.appending import Appended, Event
from palate.serve.store.store import Encoded, UserStore

Source: TypeAlias = Literal["kept", "advanced", "anew"]
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
            some = ", ".join(repr(item_id) for item_id in unknown[:3]) + (", …" if len(unknown) > 3 else "")
            raise DataError(
                f"{len(unknown)} item ids are not known: {some}; give their texts, or add them as items"
            )
        if wrong := self.served.off_scale(ratings):
            scale = ", ".join(f"{value:g}" for value in self.served.scale)
            raise DataError(f"the rating {wrong[0]:g} is not on the model's scale; expected one of {scale}")

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

    def encoded(self, user_id: str) -> tuple[Encoded, Source]:
        """The user prompt of all that is stored now; kept with the history's version, so that it is made once.

        Raises :class:`UnknownUserError`.
        """
        key, version, kept = self.store.encoded(user_id, self.served.identity)
        if kept is not None and kept.version == version:
            return kept, "kept"
        source: Source = "advanced"
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
