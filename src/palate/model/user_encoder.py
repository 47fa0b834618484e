"""User encoders: a window of interactions in, a user prompt out.

A user encoder is a module with ``forward(events) -> UserPrompt``. The paper's User Embedding Module is here, the
resampler in :mod:`palate.model.resampler` and the streaming encoder in :mod:`palate.model.streaming`;
:func:`build_user_encoder` builds one by the recipe's ``kind``; :mod:`palate.registry` says how to add another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from palate.config import UEMSettings
from palate.model.t5 import GATED_GELU
from palate.registry import user_encoders

if TYPE_CHECKING:
    from palate.model.events import EventBatch


CATEGORY_GAIN, RATING_GAIN = 2.0, 6.0
"""How loud the channels of a narrowed stream start that say an item's categories and its rating; others are at 1."""


class CatalogueVectors(Protocol):
    """What is known of all items and ratings."""

    item_vectors: Tensor  # [I, F, S]
    rating_vectors: Tensor  # [R, S]
    rating_numbers: Tensor  # [R] from -1 to 1


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


class UEM(nn.Module):
    """The paper's User Embedding Module (section 3): one user-prompt vector for each interaction, M = P.

    T5 v1.1-style layers on a residual stream as wide as the input: an item's field vectors and its rating's vector,
    side by side, (F + 1)·S; then a linear layer to E. Three layers on S = 768 and E = 768 have 65.5M parameters.
    With a ``width`` in the settings, for small machines, a linear layer makes the stream that narrow.
    """

    def __init__(self, settings: UEMSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        read = (sizes.fields + 1) * sizes.vector
        width = settings.width or read
        self.narrow = nn.Linear(read, width) if settings.width else None
        self.layers = T5Stack(
            T5Config(
                vocab_size=2,  # no token is ever read; two, so that T5's end token is one of them
                d_model=width,
                d_kv=settings.head_size,
                d_ff=settings.feed_forward,
                num_layers=settings.layers,
                num_heads=settings.heads,
                dropout_rate=settings.dropout,
                feed_forward_proj=GATED_GELU,
                use_cache=False,
            )
        )
        del self.layers.embed_tokens  # it reads vectors, never token ids
        self.project = nn.Linear(width, sizes.embedding, bias=False)

    @torch.no_grad()
    def start_from(self, table: CatalogueVectors, probe_weights: Tensor) -> None:
        """Start a narrowed stream from what differs between items and between ratings.

        Vectors of texts from one template have most in common, which says nothing: the rest is brought to unit
        variance. The first channels say how much of each of C categories an item has, by ``probe_weights`` [C, F·S],
        and the next one says the rating: each the more loudly for being one of many. Nothing happens to a stream of
        full width.
        """
        if self.narrow is None:
            return
        items, ratings = table.item_vectors.flatten(1), table.rating_vectors  # [I, F·S], [R, S]
        mean = torch.cat([items.mean(dim=0), ratings.mean(dim=0)])
        spread = torch.cat([items.std(dim=0), ratings.std(dim=0)]).clamp(min=1e-4)
        weight = self.narrow.weight
        weight.normal_(std=len(mean) ** -0.5).div_(spread)
        categories, told = len(probe_weights), (items @ probe_weights.T).std(dim=0).clamp(min=1e-4)
        weight[: categories + 1] = 0
        weight[:categories, : items.shape[1]] = CATEGORY_GAIN * probe_weights / told[:, None]
        numbers = table.rating_numbers - table.rating_numbers.mean()
        weight[categories, items.shape[1] :] = (
            RATING_GAIN * torch.linalg.pinv(ratings - ratings.mean(dim=0)) @ numbers
        )
        self.narrow.bias.copy_(-weight @ mean)

    def forward(self, events: EventBatch) -> UserPrompt:
        """Read each window item by item: [B, P] interactions become [B, P, E]."""
        items = events.item_vectors.flatten(1)[events.item]  # [B, P, F·S]
        ratings = events.rating_vectors[events.rating]  # [B, P, S]
        stream = torch.cat([items, ratings], dim=-1)  # [B, P, (F + 1)·S]
        if self.narrow is not None:
            stream = self.narrow(stream)  # [B, P, width]
        hidden = self.layers(inputs_embeds=stream, attention_mask=events.mask).last_hidden_state
        return UserPrompt(self.project(hidden), events.mask)


def build_user_encoder(settings: Any, sizes: EncoderSizes) -> nn.Module:
    """Build the user encoder of a registered kind, with random weights."""
    build = user_encoders.find(settings.kind).build
    assert build is not None, "a history as text needs no user encoder"
    return build(settings, sizes)
