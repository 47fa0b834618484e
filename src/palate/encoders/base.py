"""The interface of user encoders: a batch of windows in, a user prompt out.

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
    """The user's soft prompt U_e, with a mask because windows differ in length."""

    embeddings: Tensor  # [B, M, E]
    mask: Tensor  # [B, M] true where the language model may look
    category_logits: Tensor | None = None  # [B, L, 2] liked and disliked, for the auxiliary loss

    @classmethod
    def of(cls, prompts: Sequence[Tensor] | Tensor) -> UserPrompt:
        """B user prompts [M, E] of any lengths as one batch."""
        parts = list(prompts)
        embeddings = pad_sequence(parts, batch_first=True)  # [B, M, E]
        lengths = torch.tensor([len(one) for one in parts], device=embeddings.device)
        return cls(embeddings, torch.arange(embeddings.shape[1], device=lengths.device) < lengths[:, None])

    def split(self) -> list[Tensor]:
        """Return each user's vectors without padding: B tensors [M, E] of their own lengths."""
        return [vectors[mask] for vectors, mask in zip(self.embeddings, self.mask, strict=True)]


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes that a user encoder takes from its surroundings."""

    fields: int  # F, text fields of an item
    vector: int  # S, size of an item vector
    embedding: int  # E, the backbone's embedding size
    categories: int  # L


class UserEncoder(Protocol):
    """What the composed model asks of a user encoder."""

    def __call__(self, events: EventBatch) -> UserPrompt:
        """Turn a batch of windows into user prompts."""
        ...
