"""The model that a server answers with: its identity, its items, and what it makes of histories."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from palate.attribution import in_passes
from palate.errors import MismatchError
from palate.files import sha256_of
from palate.items.encoder import ItemEncoder
from palate.items.table import ItemTable
from palate.model.events import EventBatch
from palate.model.personalized import CARD, Table, load_model, model_folder
from palate.model.streaming import StreamingEncoder
from palate.model.user_state import UserState
from palate.runs import load_run
from palate.schema import History, Item
from palate.serve.store import Changes, Encoded, StoredHistory

AT_ONCE = 4096
"""Events that are read into a state in one pass, whose memory grows with them."""


class ServedModel:
    """A trained model beside what a server has to know of it; its methods may be called from any thread.

    A streaming user encoder reads whole histories and keeps a state of them; the others read the most recent window.
    """

    def __init__(self, run: Path) -> None:
        self.model = load_model(run)
        if torch.cuda.is_available():
            self.model.to("cuda")
        self.identity = _identity(run)
        self._run = run
        self._extending = threading.RLock()  # encoding items may take long, and readers need not wait for it
        self._swapping = threading.Lock()  # a reader must find table and vectors that belong together

    @property
    def reads(self) -> int | None:
        """How many of a history's events the model reads, the most recent ones; all where it is None."""
        return None if self._streaming else self.model.settings.window

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Those of these items that the model does not know."""
        return self.model.table.unknown(item_ids)

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """Those of these ratings that the model does not know."""
        known = set(self.scale)
        with np.errstate(over="ignore"):  # what is too large is not on the scale either
            return [rating for rating in dict.fromkeys(ratings) if float(np.float32(rating)) not in known]

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
            if known:
                self._with(table.part(item.item_id for item in known), known)
            extended = self._with(table, [item for item in items if item.item_id in new]) if new else None
            yield
            if extended is not None:
                with self._swapping:
                    self.model.with_table(extended)

    def prompt_of(self, history: History, new_items: Sequence[Item] = ()) -> Tensor:
        """The user prompt [M, E] of a history that is not stored, whose new items are known in it alone."""
        table = self._table_for(history, new_items)
        with self._swapping:
            if self._streaming is None:
                return self.model.user_prompts([history], table)[0]
            return self._streaming.prompt(self._read(history, table))[0]

    def prompts_of(
        self, histories: Sequence[History], new_items: Sequence[Item] = ()
    ) -> Iterator[list[Tensor]]:
        """The user prompts [M, E] of histories that have no more items than the first, pass by pass."""
        table = self._table_for(histories[0], new_items)
        for some in in_passes(histories):
            with self._swapping:
                prompts = self.model.user_prompts(some, table, whole=True)
            yield prompts

    def view_of(self, history: History, new_items: Sequence[Item] = ()) -> Tensor | None:
        """The chances that each label is liked and disliked as the user encoder sees it, [L, 2], if it has a view."""
        if self._streaming is None:
            return None
        table = self._table_for(history, new_items)
        with self._swapping:
            return self._streaming.view(self._read(history, table))[0]

    def encode(self, found: StoredHistory) -> Encoded:
        """What is kept of a stored history: all of it, or its most recent :attr:`reads` events."""
        with self._swapping:
            if self._streaming is None:
                return self._encoded(found.version, self.model.user_prompts([found.history])[0])
            return self._encoded_state(found.version, self._read(found.history))

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """What was kept of an older version, brought up to date at a cost that does not depend on the history.

        None where only the whole history can tell: without a state, or when rounding would show.
        """
        if self._streaming is None or kept.state is None:
            return None
        empty = self._streaming.init_state(1)
        with self._swapping:
            state = UserState.from_bytes(kept.state, self._reader, empty)
            state = self._streaming.merge(state, self._read(changes.added))
            if len(changes.removed):
                try:
                    state = self._streaming.remove(state, self._events(changes.removed))
                except MismatchError:
                    return None
            return self._encoded_state(changes.version, state)

    @staticmethod
    def prompt_from(kept: Encoded) -> Tensor:
        """The user prompt [M, E] that was kept."""
        return load(kept.prompt)["user_prompt"]

    @cached_property
    def _streaming(self) -> StreamingEncoder | None:
        encoder = self.model.user_encoder
        return encoder if isinstance(encoder, StreamingEncoder) else None

    @cached_property
    def _reader(self) -> str:
        assert self._streaming is not None
        return self._streaming.reader.identity()

    @cached_property
    def _item_encoder(self) -> ItemEncoder:
        return ItemEncoder(load_run(self._run).recipe.items)

    def _table_for(self, history: History, new_items: Sequence[Item]) -> Table | None:
        if not new_items:
            return None
        named = (*history.item_ids, *(item.item_id for item in new_items))
        return self._with(self.model.table.part(named), new_items)

    def _with(self, table: Table, items: Sequence[Item]) -> Table:
        if not isinstance(table, ItemTable):
            return table.extended(items)
        with self._extending:
            return table.extended(items, self._item_encoder) if items else table

    def _read(self, history: History, table: Table | None = None) -> UserState:
        assert self._streaming is not None
        state = self._streaming.init_state(1)
        for start in range(0, len(history), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            some = History(
                history.user_id, history.item_ids[part], history.ratings[part], history.timestamps[part]
            )
            state = self._streaming.add(state, self._events(some, table))
        return state

    def _events(self, history: History, table: Table | None = None) -> EventBatch:
        events = self.model.events([history], table)
        assert isinstance(events, EventBatch)
        return events

    def _encoded_state(self, version: int, state: UserState) -> Encoded:
        assert self._streaming is not None
        return self._encoded(version, self._streaming.prompt(state)[0], state.to_bytes(self._reader))

    def _encoded(self, version: int, prompt: Tensor, state: bytes | None = None) -> Encoded:
        made = {"model": self.identity, "version": str(version)}
        return Encoded(version, save({"user_prompt": prompt.cpu().contiguous()}, made), state)


def _identity(run: Path) -> str:
    """sha256 over all that a saved model computes with, so that nothing made by another is taken for its own."""
    folder = model_folder(run)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CARD:
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"
