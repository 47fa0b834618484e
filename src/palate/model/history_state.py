"""Incremental states of histories, of one user or of several together, for user encoders that support it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from palate.system.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from palate.encoders.base import KeptState, UserPrompt
    from palate.model.reading import ReadingModel
    from palate.schema import History


class HistoryState:
    """Incremental state of one user's history, of constant size.

    Created by :meth:`PersonalizedModel.new_state` and :meth:`PersonalizedModel.load_state`. After ``add(history)``,
    its prompt equals that of ``model.encode([history])``. The state does not know which events it contains: a
    superseded rating must be removed with :meth:`remove` before the new one is added.
    """

    def __init__(self, model: ReadingModel, state: KeptState | None = None) -> None:
        self._model, self._encoder = model, model.keeper
        self._state: Any = self._encoder.init_state(1) if state is None else state

    def __len__(self) -> int:
        """Return the number of events in the state."""
        return int(self._state.count[0])

    def add(self, events: History) -> None:
        """Add events, in any order, at a cost independent of the number of earlier events.

        Raises:
            DataError: An item is unknown, or a rating is not on the model's scale.
        """
        self._state = self._model.read_into(self._state, [events])

    def remove(self, events: History, remaining: History | None = None) -> None:
        """Remove events that were added before.

        Args:
            events: The events, as they were added.
            remaining: The remaining history, from which the state is recomputed if subtraction is not exact: if
                rounding errors become visible or, with ``recency``, if the newest event is removed.

        Raises:
            MismatchError: The state has to be recomputed and ``remaining`` is None, or more events are removed than
                were added.
        """

        def left(_: Tensor) -> KeptState:
            assert remaining is not None
            return self._model.read_into(self._encoder.init_state(1), [remaining])

        taken = self._model.read_into(self._encoder.init_state(1), [events])
        self._state = self._encoder.subtract(self._state, taken, None if remaining is None else left)

    def merge(self, other: HistoryState) -> None:
        """Add the events of another state of the same model; exact, and independent of the order of merges."""
        self._state = self._state.merge(other._state)

    def prompt(self) -> Tensor:
        """Compute the user prompt [M, E] as the backbone reads it."""
        return self.user_prompt().split()[0]

    @torch.no_grad()
    def user_prompt(self) -> UserPrompt:
        """Compute the user prompt [1, M, E], equal to that of :meth:`PersonalizedModel.encode` for the history."""
        return self._model.like_tokens(self._encoder.user_prompt(self._state))

    def category_probabilities(self) -> Tensor:
        """Compute the user encoder's probabilities [L, 2] that each label is liked and disliked."""
        logits = self.user_prompt().category_logits
        assert logits is not None
        return logits[0].sigmoid()

    def to_bytes(self) -> bytes:
        """Serialise to safetensors, for :meth:`PersonalizedModel.load_state`."""
        return self._encoder.pack(self._state, self._model.table)[0]

    def save(self, path: Path | str) -> None:
        """Write :meth:`to_bytes` to a file atomically."""
        write_bytes(path, self.to_bytes())

    @classmethod
    def load(cls, model: ReadingModel, source: bytes | Path | str) -> HistoryState:
        """Load a state from a file or bytes; raises :class:`DataError` if it is not of this model."""
        path = None if isinstance(source, bytes) else Path(source)
        data = (
            source
            if isinstance(source, bytes)
            else read_bytes(source, "not a user state (no such file); rebuild it from the stored events")
        )
        return cls(model, model.keeper.unpack([data], model.table, path))


class HistoryStates:
    """Incremental states of the histories of B users, which are read and written in the same passes.

    Each equals that of a :class:`HistoryState`, to rounding.
    """

    def __init__(self, model: ReadingModel, state: KeptState) -> None:
        self._model, self._encoder = model, model.keeper
        self._state: Any = state

    @classmethod
    def empty(cls, model: ReadingModel, users: int) -> HistoryStates:
        """Create the states of users without a history."""
        return cls(model, model.keeper.init_state(users))

    @classmethod
    def load(cls, model: ReadingModel, sources: Sequence[bytes]) -> HistoryStates:
        """Load each user's state from bytes; raises :class:`DataError` if one is not of this model."""
        return cls(model, model.keeper.unpack(sources, model.table))

    def add(self, events: Sequence[History]) -> None:
        """Add events of each user, in any order; raises what :meth:`HistoryState.add` raises."""
        self._state = self._model.read_into(self._state, events)

    def remove(self, events: Sequence[History]) -> list[int]:
        """Remove events of each user that were added before.

        Returns:
            The users whose states have become useless, as they have to be recomputed from the remaining events.

        Raises:
            MismatchError: More events are removed than were added.
        """
        lost: list[int] = []

        def left(rows: Tensor) -> KeptState:
            lost.extend(rows.tolist())
            emptied: KeptState = self._encoder.init_state(len(rows))
            return emptied

        taken = self._model.read_into(self._encoder.init_state(len(events)), events)
        self._state = self._encoder.subtract(self._state, taken, left)
        return lost

    @torch.no_grad()
    def user_prompts(self) -> list[UserPrompt]:
        """Compute the user prompt [1, M, E] of each user."""
        return self._model.like_tokens(self._encoder.user_prompt(self._state)).each()

    def to_bytes(self) -> list[bytes]:
        """Serialise each user's state to safetensors."""
        return self._encoder.pack(self._state, self._model.table)
