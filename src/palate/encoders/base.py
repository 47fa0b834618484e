"""Interface of user encoders: a batch of windows to user prompts.

A user encoder is a module with ``forward(events) -> UserPrompt``: :mod:`palate.encoders.uem` holds the paper's,
:mod:`palate.encoders.kinds` lists all, and :mod:`palate.config.registry` says how to add another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from palate.encoders.batch import EventBatch


@dataclass(frozen=True, eq=False)
class UserPrompt:
    """Soft prompts U_e of B users, padded to one length, with a mask."""

    embeddings: Tensor  # [B, M, E]
    mask: Tensor  # [B, M] true where the language model may look
    category_logits: Tensor | None = None  # [B, L, 2] liked and disliked, for the auxiliary loss
    named: Tensor | None = None  # [B, 2, most] decided categories, likeliest first, -1 at empty ranks
    entities: Tensor | None = None  # [B, L, E] what a category is to the user, beside its name in a question

    @classmethod
    def of(cls, prompts: Sequence[Tensor] | Tensor) -> UserPrompt:
        """Pad B user prompts [M, E] of different lengths into one batch."""
        parts = list(prompts)
        embeddings = pad_sequence(parts, batch_first=True)  # [B, M, E]
        lengths = torch.tensor([len(one) for one in parts], device=embeddings.device)
        return cls(embeddings, torch.arange(embeddings.shape[1], device=lengths.device) < lengths[:, None])

    def split(self) -> list[Tensor]:
        """Return each user's vectors without padding: B tensors [M, E] of their own lengths."""
        return [vectors[mask] for vectors, mask in zip(self.embeddings, self.mask, strict=True)]


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes that a user encoder takes from the data and the backbone."""

    fields: int  # F, text fields of an item
    vector: int  # S, size of an item vector
    embedding: int  # E, the backbone's embedding size
    categories: int  # L


class UserEncoder(Protocol):
    """Protocol of user encoders."""

    def __call__(self, events: EventBatch) -> UserPrompt:
        """Encode a batch of windows as user prompts."""
        ...
