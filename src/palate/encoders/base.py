"""The interface of user encoders, which map a batch of windows to user prompts.

A user encoder is a module with ``forward(events) -> UserPrompt``. :mod:`palate.encoders.uem` holds the paper's,
:mod:`palate.encoders.kinds` registers all of palate's, and :mod:`palate.config.registry` describes how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from palate.schema import Bools, Doubles, Preferences, Truth, WindowKind, Windows
from palate.tasks.targets import expected_f1

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.data.population import PopulationSummary
    from palate.encoders.batch import EventBatch
    from palate.tasks.category_preference import CategoryPreference


@dataclass(frozen=True, eq=False)
class UserPrompt:
    """Soft prompts U_e of B users, padded to one length, with a mask."""

    embeddings: Tensor  # [B, M, E]
    mask: Tensor  # [B, M] attention mask, false at padding
    category_logits: Tensor | None = None  # [B, L, 2] liked and disliked, for the auxiliary loss
    named: Tensor | None = None  # [B, 2, most] selected categories, likeliest first, -1 at empty ranks
    entities: Tensor | None = (
        None  # [B, L, E] user-specific vector of each category, for its name in questions
    )
    kept: Tensor | None = None  # [B, 2] intercept and slope from the expected to the reached F1
    scores: Tensor | None = (
        None  # [B, L] expected score of each category above the threshold of liked labels, on a scale of width 1
    )

    @classmethod
    def of(cls, prompts: Sequence[Tensor] | Tensor) -> UserPrompt:
        """Pad B user prompts [M, E] of different lengths into one batch."""
        parts = list(prompts)
        embeddings = pad_sequence(parts, batch_first=True)  # [B, M, E]
        lengths = torch.tensor([len(one) for one in parts], device=embeddings.device)
        return cls(embeddings, torch.arange(embeddings.shape[1], device=lengths.device) < lengths[:, None])

    @property
    def decided(self) -> Preferences | None:
        """Categories that the user encoder has selected; None if it selects none."""
        if self.named is None:
            return None
        named = self.named.cpu().numpy()
        return Preferences(named[:, 0], named[:, 1])

    @property
    def category_chances(self) -> Doubles | None:
        """Probabilities that each label is liked and disliked, [B, L, 2]; None without logits."""
        if self.category_logits is None:
            return None
        return np.asarray(self.category_logits.detach().double().sigmoid().cpu().numpy())

    def expected_f1(self, named: Bools, most: int) -> Doubles | None:
        """Estimate the F1 of answers from the probabilities, calibrated by ``kept``, [B]; None without logits.

        Args:
            named: Liked labels that the answers name, [B, L].
            most: Maximum number of true labels of a user.
        """
        if (chances := self.category_chances) is None:
            return None
        expected = expected_f1(chances[..., 0], named, most)
        if self.kept is not None:
            constant, factor = self.kept.cpu().numpy().T
            expected = np.clip(constant + factor * expected, 0, 1)
        return expected

    def split(self) -> list[Tensor]:
        """Return each user's vectors without padding: B tensors [M, E] whose M differs."""
        if bool(self.mask.all()):
            return list(self.embeddings)
        return [vectors[mask] for vectors, mask in zip(self.embeddings, self.mask, strict=True)]

    def each(self) -> list[UserPrompt]:
        """Return one user prompt without padding per user, with ``named``, ``entities`` and ``scores``."""
        return [
            replace(
                UserPrompt.of([vectors]),
                named=None if self.named is None else self.named[row : row + 1],
                entities=None if self.entities is None else self.entities[row : row + 1],
                scores=None if self.scores is None else self.scores[row : row + 1],
            )
            for row, vectors in enumerate(self.split())
        ]

    @classmethod
    def joined(cls, users: Sequence[UserPrompt]) -> UserPrompt:
        """Join user prompts into one batch.

        Args:
            users: User prompts. ``named`` is kept if all have it; ``entities`` and ``scores`` may be missing for
                users whose question is not about a category, and are zeros for them.

        Returns:
            The batch, without category logits.
        """
        joined = cls.of([vectors for user in users for vectors in user.split()])
        named = [user.named for user in users if user.named is not None]
        entities = [user.entities for user in users if user.entities is not None]
        nothing = joined.embeddings.new_zeros(0, joined.embeddings.shape[-1])
        rows = [
            row
            for user in users
            for row in (user.entities if user.entities is not None else [nothing] * len(user.mask))
        ]
        scores = [
            row
            for user in users
            for row in (user.scores if user.scores is not None else [nothing[:, 0]] * len(user.mask))
        ]
        return replace(
            joined,
            named=torch.cat(named) if len(named) == len(users) else None,
            entities=pad_sequence(rows, batch_first=True) if entities else None,
            scores=pad_sequence(scores, batch_first=True) if any(map(len, scores)) else None,
        )

    def to(self, device: torch.device) -> UserPrompt:
        """Move the tensors to a device."""
        tensors = {column.name: getattr(self, column.name) for column in fields(self)}
        return replace(self, **{name: one.to(device) for name, one in tensors.items() if one is not None})


Mentioned: TypeAlias = Callable[[Tensor, Tensor | None, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Computes the vectors [B, Q, E] and mask [B, Q] of what questions name, from the vectors [B, L, E] and scores [B, L]
of the categories, the categories named [B, Q], the expected ratings of the items named [B, Q], and the embeddings
[B, Q, E] of the names' first tokens."""


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes that a user encoder takes from the data and the backbone."""

    fields: int  # F, text fields of an item
    vector: int  # S, size of an item vector
    embedding: int  # E, the backbone's embedding size
    categories: int  # L


def spread_of(deviation: Tensor) -> Tensor:
    """Return standard deviations [N] that are safe to divide by: 1 for constant channels, and at least 1e-4."""
    return torch.where(deviation == 0, torch.ones_like(deviation), deviation.clamp(min=1e-4))


class UserEncoder(Protocol):
    """Protocol of user encoders."""

    def __call__(self, events: EventBatch) -> UserPrompt:
        """Encode a batch of windows as user prompts."""
        ...


class KeptState(Protocol):
    """Protocol of an encoder's state for the histories of B users."""

    @property
    def count(self) -> Tensor:
        """Number of events that were read, [B]."""

    def merge(self, other: Any) -> Any:
        """Combine the states of two parts of the histories; independent of the order."""


@runtime_checkable
class KeepsState(Protocol):
    """Protocol of user encoders with an incremental state: events can be added to it and removed from it.

    Such an encoder reads full histories: ``user_prompt(add(init_state(B), events))`` equals ``forward(events)``.
    """

    def init_state(self, users: int) -> Any:
        """Create the state of users without a history."""

    def add(self, state: Any, events: Any) -> Any:
        """Add events [B, P], in any order, at a cost that does not depend on the history."""

    def subtract(self, state: Any, taken: Any, remaining: Callable[[Tensor], Any] | None = None) -> Any:
        """Remove the events of one state from another.

        Args:
            state: States of B users.
            taken: States of the events to remove, which they contain.
            remaining: Function that takes row indices and returns the states of these users' remaining events.

        Returns:
            The states without the events.

        Raises:
            MismatchError: A state must be rebuilt and ``remaining`` is None, or there are more events than it
                contains.
        """

    def user_prompt(self, state: Any) -> UserPrompt:
        """Compute the user prompts of B users."""

    def pack(self, state: Any, table: Any) -> list[bytes]:
        """Serialise the states of B users, each by itself; ``table`` is the item table that their events refer to."""

    def unpack(self, data: Sequence[bytes], table: Any, path: Path | None = None) -> Any:
        """Deserialise the result of :meth:`pack`, for one or more users; ``table`` may have additional items.

        Raises:
            DataError: The bytes are damaged, or belong to other weights or items; rebuild the state from the stored
                events.
        """


@dataclass(frozen=True, eq=False)
class Binding:
    """The population, category names and backbone embeddings that a catalogue-free encoder is bound to."""

    summary: PopulationSummary
    names: Sequence[Sequence[int]]
    """Token ids of the L categories' names within a text."""
    nothing: Sequence[Sequence[int]]
    """Token ids of the texts of an empty liked and an empty disliked list."""
    embeddings: Callable[[], nn.Module]
    """Returns the backbone's token embeddings."""
    scaled: Callable[[Tensor], Tensor] | None = None
    """Scales vectors that are not token embeddings [..., E] for the backbone; None for no scaling."""


@runtime_checkable
class BindsToData(Protocol):
    """Protocol of catalogue-free user encoders.

    Their user prompts mix token embeddings with other vectors, which the encoder scales itself (:class:`Binding`).
    """

    summary: PopulationSummary | None
    """Summary that the encoder is bound to."""

    @property
    def name_places(self) -> Tensor | None:
        """Position vectors of the tokens of a category's name in a question [S, E], for :meth:`Asked.embedded`."""

    @property
    def mentioned(self) -> Mentioned | None:
        """Computes the vectors of categories and items in questions; None for those of the categories alone."""

    def summarised(
        self,
        dataset: Dataset,
        task: CategoryPreference,
        near: Sequence[int] = (),
        truth: Truth = "labels",
        kind: WindowKind = "random",
        read: Callable[[Windows], Any] | None = None,
    ) -> PopulationSummary:
        """Summarise a dataset's training users, and calibrate the decisions on their windows.

        Args:
            dataset: The dataset.
            task: The task, with its label rule.
            near: Lengths of the only histories to calibrate for, which takes less time; all lengths if empty.
            truth: Interactions that the labels for the calibration are computed from.
            kind: Kind of the windows for the calibration.
            read: Looks up the encoder's inputs for windows, for an encoder that reads item vectors.

        Returns:
            The summary.
        """

    def trained_on_data(self) -> Iterable[nn.Parameter]:
        """List the weights that training on one dataset adapts; the others only write the prompt."""

    def bound(self, binding: Binding) -> Any:
        """Return an encoder with the same weights, bound to another population and catalogue."""
