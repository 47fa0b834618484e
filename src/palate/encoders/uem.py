"""The paper's User Embedding Module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from palate.backbones.t5 import GATED_GELU
from palate.config.recipe import UEMSettings
from palate.encoders.base import EncoderSizes, UserPrompt

if TYPE_CHECKING:
    from palate.encoders.batch import EventBatch, VectorCatalogue

CATEGORY_GAIN, RATING_GAIN = 2.0, 6.0
"""How loud the channels of a narrowed stream start that say an item's categories and its rating; others are at 1."""


class UEM(nn.Module):
    """The paper's User Embedding Module (section 3): one user-prompt vector for each interaction, M = P.

    T5 v1.1-style layers on a residual stream as wide as the input: an item's field vectors and its rating's vector,
    side by side, (F + 1)·S; then a linear layer to E. Three layers on S = 768 and E = 768 have 65.5M parameters.
    With a ``d_model`` in the settings, for small machines, a linear layer makes the stream that narrow.
    """

    def __init__(self, settings: UEMSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        read = (sizes.fields + 1) * sizes.vector
        width = settings.d_model or read
        self.narrow = nn.Linear(read, width) if settings.d_model else None
        self.layers = T5Stack(
            T5Config(
                vocab_size=2,  # no token is ever read; two, so that T5's end token is one of them
                d_model=width,
                d_kv=settings.d_kv,
                d_ff=settings.d_ff,
                num_layers=settings.num_layers,
                num_heads=settings.num_heads,
                dropout_rate=settings.dropout,
                feed_forward_proj=GATED_GELU,
                use_cache=False,
            )
        )
        del self.layers.embed_tokens  # it reads vectors, never token ids
        self.project = nn.Linear(width, sizes.embedding, bias=False)

    @torch.no_grad()
    def start_from(self, table: VectorCatalogue, probe_weights: Tensor) -> None:
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
