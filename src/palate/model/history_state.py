"""The running state of one user's history: a streaming encoder's memory, updated event by event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.encoders.state import UserState
from palate.encoders.streaming import StreamingEncoder
from palate.errors import MismatchError
from palate.system.files import write_bytes

if TYPE_CHECKING:
    from palate.encoders.base import UserPrompt
    from palate.model.model import PersonalizedModel
    from palate.schema import History


class HistoryState:
    """What a model remembers of one user's history, in memory that does not grow with it.

    Made by :meth:`PersonalizedModel.new_state` and :meth:`PersonalizedModel.load_state`. After ``add(history)`` its
    prompt is that of ``model.encode([history])``. It does not remember which events it has read: whoever keeps the
    history takes a superseded rating out with :meth:`remove` before the new one is added.
    """

    def __init__(self, model: PersonalizedModel, state: UserState | None = None) -> None:
        encoder = model.user_encoder
        if not isinstance(encoder, StreamingEncoder):
            kind = model.settings.user_encoder.kind
            raise MismatchError(
                f"a {kind!r} user encoder keeps no state of a history; expected 'streaming', or use encode()"
            )
        self._model, self._encoder = model, encoder
        self._state = encoder.init_state(1) if state is None else state

    def __len__(self) -> int:
        """The number of events that it holds."""
        return int(self._state.count[0])

    def add(self, events: History) -> None:
        """Add events, in any order, at a cost that does not depend on what came before.

        Raises:
            DataError: An item is not in the model's table, or a rating is not on its scale.
        """
        self._state = self._model.read_into(self._encoder, self._state, [events])

    def remove(self, events: History, remaining: History | None = None) -> None:
        """Take out events that were added before.

        Args:
            events: The events, as they were added.
            remaining: The history that is left. It is read again where rounding errors would show: when little is
                left of what was added, or, with ``recency``, when the newest event goes.

        Raises:
            MismatchError: The history must be read again and ``remaining`` is not given, or there are more events
                than were added.
        """

        def left(_: Tensor) -> UserState:
            assert remaining is not None
            return self._model.read_into(self._encoder, self._encoder.init_state(1), [remaining])

        taken = self._model.read_into(self._encoder, self._encoder.init_state(1), [events])
        self._state = self._encoder.subtract(self._state, taken, None if remaining is None else left)

    def merge(self, other: HistoryState) -> None:
        """Add what another state of the same model has read, exactly and in any order."""
        self._state = self._state.merge(other._state)

    def prompt(self) -> Tensor:
        """Return the user prompt as the backbone reads it: [M, E]."""
        return self._user().split()[0]

    def category_probabilities(self) -> Tensor:
        """Return the encoder's own estimate that each label is liked and disliked: [L, 2]."""
        logits = self._user().category_logits
        assert logits is not None
        return logits[0].sigmoid()

    def to_bytes(self) -> bytes:
        """Serialise as safetensors; :meth:`PersonalizedModel.load_state` reads it."""
        return self._state.to_bytes(self._encoder.reader.identity())

    def save(self, path: Path | str) -> None:
        """Write :meth:`to_bytes` to a file, whole or not at all."""
        write_bytes(path, self.to_bytes())

    def parse(self, source: bytes | Path | str) -> UserState:
        """Read the state in a file or in bytes; raises :class:`DataError` where it is not one of this encoder's."""
        reader, like = self._encoder.reader.identity(), self._encoder.init_state(0)
        if isinstance(source, bytes):
            return UserState.from_bytes(source, reader, like)
        return UserState.load(Path(source), reader, like)

    @torch.no_grad()
    def _user(self) -> UserPrompt:
        return self._model.like_tokens(self._encoder.user_prompt(self._state))
