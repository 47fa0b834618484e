"""Second layer of the model class: encoding of histories as user prompts, at once or incrementally by a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from palate.backbones.base import Backbone
from palate.encoders.base import BindsToData, KeepsState, KeptState, UserPrompt
from palate.encoders.batch import windows_of
from palate.errors import MismatchError
from palate.items.encoder import ItemEncoder
from palate.model.config import PersonalizedSettings
from palate.model.history_state import HistoryState
from palate.model.parts import ModelParts
from palate.model.tables import EventInput, Table, vectors_of
from palate.schema import History, Windows

EVENTS_AT_ONCE = 4096
"""Number of events per forward pass of an encoder that reads whole histories, which bounds its memory."""


class ReadingModel(ModelParts):
    """Model that encodes histories as user prompts, at once or incrementally."""

    def __init__(self, settings: PersonalizedSettings, backbone: Backbone, table: Table) -> None:
        super().__init__(settings, backbone, table)
        self._text_encoder: ItemEncoder | None = None

    @property
    def max_events(self) -> int | None:
        """Maximum number of events of a history that are read, the most recent ones; None for all.

        User encoders with a state read whole histories, all others a window of ``settings.window`` events.
        """
        return None if self.keeps_state else self.settings.window

    @property
    def has_view(self) -> bool:
        """Whether the user encoder predicts liked and disliked categories itself, with probabilities."""
        return isinstance(self.user_encoder, BindsToData)

    @property
    def keeps_state(self) -> bool:
        """Whether the user encoder has an incremental state, for :meth:`new_state`."""
        return isinstance(self.user_encoder, KeepsState)

    @property
    def keeper(self) -> KeepsState:
        """The user encoder, if it has an incremental state; raises :class:`MismatchError` otherwise."""
        if not self.keeps_state:
            kind = self.settings.user_encoder.kind
            raise MismatchError(
                f"a {kind!r} user encoder keeps no state of a history; expected 'streaming' or 'universal', or use "
                "encode()"
            )
        return cast(KeepsState, self.user_encoder)

    def visible(self, history: History) -> History:
        """Return the part of a history that is read, at most :attr:`max_events` events.

        Only the last event of each item is included, unless the model's data keeps repeated events.
        """
        return history.latest(self.max_events, self.settings.repeats)

    def windows(self, histories: Sequence[History]) -> Windows:
        """Convert the visible part of B histories to windows of indices, with vectors of event texts if read.

        Raises:
            DataError: As for :meth:`events`.
        """
        encode = self.text_encoder.fresh if self.settings.event_texts else None
        return windows_of(histories, self.table, self.max_events, self.settings.repeats, encode)

    @property
    def text_encoder(self) -> ItemEncoder:
        """The item encoder, which also encodes texts of events; loaded on first use."""
        if self._text_encoder is None:
            vectors = vectors_of(self.table)
            assert vectors is not None, "texts of events need an encoder of item vectors"
            self._text_encoder = ItemEncoder.of(vectors.encoder, self.device)
        return self._text_encoder

    def events(self, histories: Sequence[History]) -> EventInput:
        """Convert the visible part of B histories to the user encoder's input.

        Raises:
            DataError: An item is not in :attr:`table`, or a rating is not on its scale.
        """
        return self._events(self.windows(histories))

    @torch.inference_mode()
    def encode(self, histories: Sequence[History]) -> UserPrompt:
        """Encode histories as user prompts, exactly as the backbone reads them.

        Args:
            histories: B histories, oldest event first; :meth:`visible` returns the part of each that is read.

        Returns:
            User prompts [B, M, E] with their mask [B, M]; padding is zero.

        Raises:
            DataError: An item is not in :attr:`table`, a rating is not on its scale, or the columns of a history
                have different lengths.

        Example:
            >>> user = model.encode(data.histories(["1"]))
            >>> user.embeddings.shape
            torch.Size([1, 8, 32])
        """
        if self.keeps_state:
            state = self.read_into(self.keeper.init_state(len(histories)), histories)
            user = self.like_tokens(self.keeper.user_prompt(state))
        else:
            user = self.like_tokens(self.user_encoder(self.events(histories)))
        return replace(user, embeddings=user.embeddings * user.mask[..., None])

    def new_state(self) -> HistoryState:
        """Create an empty incremental state of one user's history.

        Returns:
            The state.

        Raises:
            MismatchError: The user encoder has no incremental state.

        Example:
            >>> state = model.new_state()
            >>> state.add(data.histories(["1"])[0])
            >>> len(model.generate_from([state.prompt()]))
            1
        """
        return HistoryState(self)

    def load_state(self, source: bytes | Path | str) -> HistoryState:
        """Load a state from a file of :meth:`HistoryState.save`, or from its bytes.

        Raises:
            DataError: The state is corrupt, or was made with other weights or other items.
        """
        return HistoryState.load(self, source)

    @torch.no_grad()
    def read_into(self, state: KeptState, histories: Sequence[History]) -> KeptState:
        """Add the visible part of B histories to their states, in chunks of bounded memory."""
        windows = self.windows(histories)
        for start in range(0, windows.item_index.shape[1], EVENTS_AT_ONCE):
            events = self._events(windows.columns(start, start + EVENTS_AT_ONCE))
            state = self.keeper.add(state, events)
        return state
