"""Resampler: learned latent queries with cross-attention to the items.

The user encoder of PERSOMA (arXiv 2408.00960), in the form of the Perceiver resampler (arXiv 2204.14198).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.config.recipe import ResamplerSettings
from palate.encoders.base import EncoderSizes, UserPrompt

if TYPE_CHECKING:
    from palate.encoders.batch import EventBatch


class ResamplerEncoder(nn.Module):
    """Q latent queries that attend to the window's items and to each other: M = Q user-prompt vectors.

    An item is combined with its rating, given as a vector and as a number. A new event requires encoding the whole
    window again.
    """

    def __init__(self, settings: ResamplerSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        width = settings.d_model
        self.item = nn.Linear(sizes.fields * sizes.vector, width)
        self.rating = nn.Linear(sizes.vector + 1, width)
        self.adapter = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.query = nn.Parameter(torch.randn(settings.num_queries, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(settings) for _ in range(settings.num_layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, sizes.embedding)

    def forward(self, events: EventBatch) -> UserPrompt:
        """Encode each window: [B, P] interactions to [B, Q, E]."""
        items = self.item(events.item_vectors.flatten(1))  # [N, width]: each distinct item is projected once
        numbers = events.rating_numbers[:, None].to(events.rating_vectors.dtype)
        ratings = self.rating(torch.cat([events.rating_vectors, numbers], dim=-1))  # [R, width]
        read = self.adapter(items[events.item] + ratings[events.rating])  # [B, P, width]
        latents = self.query.expand(len(read), -1, -1)
        own = events.mask.new_ones(latents.shape[:2])
        mask = torch.cat([events.mask, own], dim=1)[:, None, None]  # [B, 1, 1, P + Q]
        for layer in self.layers:
            latents = layer(latents, read, mask)
        return UserPrompt(self.project(self.norm(latents)), own)


class _Layer(nn.Module):
    """Attention of the latents to items and latents, then a feed-forward network, both with residual connections."""

    def __init__(self, settings: ResamplerSettings) -> None:
        super().__init__()
        width = settings.d_model
        self.heads, self.dropout = settings.num_heads, settings.dropout
        self.norm_items, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, latents: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """Update the latents [B, Q, width] from the items [B, P, width]."""
        normed = self.norm_latents(latents)
        source = torch.cat([self.norm_items(items), normed], dim=1)
        queries, keys, values = (
            self._by_head(one) for one in (self.query(normed), *self.key_value(source).chunk(2, dim=-1))
        )
        dropout = self.dropout if self.training else 0.0
        read = functional.scaled_dot_product_attention(queries, keys, values, mask, dropout)
        latents = latents + self.out(read.transpose(1, 2).flatten(2))
        latents = latents + self.feed_forward(latents)
        return latents

    def _by_head(self, vectors: Tensor) -> Tensor:
        return vectors.reshape(*vectors.shape[:2], self.heads, -1).transpose(1, 2)  # [B, heads, …]
