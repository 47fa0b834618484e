"""The paper's User Embedding Module (UEM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from palate.backbones.t5 import GATED_GELU
from palate.config.recipe import UEMSettings
from palate.encoders.base import EncoderSizes, UserPrompt, spread_of

if TYPE_CHECKING:
    from palate.encoders.batch import EventBatch, VectorCatalogue

CATEGORY_GAIN, RATING_GAIN = 2.0, 6.0
"""Initial gains of the category and rating channels of a narrowed residual stream; 1 for the others."""


class UEM(nn.Module):
    """User Embedding Module (section 3 of the paper): one user-prompt vector per interaction, M = P.

    T5 v1.1-style layers on a residual stream as wide as the input, the concatenated field vectors of an item and the
    vector of its rating, (F + 1)·S; then a linear layer to E. Three layers with S = 768 and E = 768 have 65.5M
    parameters. If ``d_model`` is set, for small machines, a linear layer first projects the input to that size.
    """

    def __init__(self, settings: UEMSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        read = (sizes.fields + 1) * sizes.vector
        width = settings.d_model or read
        self.narrow = nn.Linear(read, width) if settings.d_model else None
        self.layers = T5Stack(
            T5Config(
                vocab_size=2,  # no token is ever read, but T5's end token, 1, must be valid
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
        """Initialise the input projection from the differences between items and between ratings.

        Vectors of texts from one template have a large common part without information: it is subtracted, and the rest
        scaled to unit variance. The first C channels are each category's probe output and the next one is the rating,
        with higher gains because they are few. Without an input projection nothing is changed.

        Args:
            table: Vectors of all items and rating values.
            probe_weights: Weights of a linear probe for C categories, [C, F·S].
        """
        if self.narrow is None:
            return
        items, ratings = table.item_vectors.flatten(1), table.rating_vectors  # [I, F·S], [R, S]
        mean = torch.cat([items.mean(dim=0), ratings.mean(dim=0)])
        spread = spread_of(torch.cat([items.std(dim=0), ratings.std(dim=0)]))
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
        """Encode each window: [B, P] interactions to [B, P, E]."""
        items = events.item_vectors.flatten(1)[events.item]  # [B, P, F·S]
        ratings = events.rating_vectors[events.rating]  # [B, P, S]
        stream = torch.cat([items, ratings], dim=-1)  # [B, P, (F + 1)·S]
        if self.narrow is not None:
            stream = self.narrow(stream)  # [B, P, width]
        hidden = self.layers(inputs_embeds=stream, attention_mask=events.mask).last_hidden_state
        return UserPrompt(self.project(hidden), events.mask)
