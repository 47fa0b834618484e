"""User encoders without attention: an MLP per item (PERSOMA), and one vector for the full history (E2P)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from palate.config.recipe import MLPSettings, PooledSettings
from palate.encoders.base import EncoderSizes, UserPrompt

if TYPE_CHECKING:
    from palate.encoders.batch import EventBatch


class MLPAdapter(nn.Module):
    """The MLP adapter of PERSOMA (arXiv 2408.00960): one user-prompt vector per interaction, M = P."""

    def __init__(self, settings: MLPSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        self.item = nn.Linear(sizes.fields * sizes.vector, settings.d_ff)
        self.rating = nn.Linear(sizes.vector + 1, settings.d_ff)
        self.layers = nn.Sequential(
            *(
                layer
                for _ in range(settings.num_layers - 1)
                for layer in (
                    nn.GELU(),
                    nn.Dropout(settings.dropout),
                    nn.Linear(settings.d_ff, settings.d_ff),
                )
            ),
            nn.GELU(),
        )
        self.project = nn.Linear(settings.d_ff, sizes.embedding)

    def forward(self, events: EventBatch) -> UserPrompt:
        """Encode each interaction by itself: [B, P] interactions to [B, P, E]."""
        items = self.item(events.item_vectors.flatten(1))  # [N, d_ff]: each distinct item is projected once
        ratings = self.rating(_ratings(events))  # [R, d_ff]
        hidden = self.layers(items[events.item] + ratings[events.rating])
        return UserPrompt(self.project(hidden), events.mask)


class PooledEncoder(nn.Module):
    """An MLP from one embedding of the user to a user prompt of one vector, as in E2P (arXiv 2505.17051).

    E2P takes the user embedding from a recommender. Here it is computed without training: the mean of the history's
    item vectors, and their mean weighted by the ratings on a scale from -1 to 1.
    """

    def __init__(self, settings: PooledSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        self.shape = settings.num_vectors, sizes.embedding
        read = 2 * sizes.fields * sizes.vector + sizes.vector + 1
        self.norm = nn.LayerNorm(read)
        self.hidden = nn.Sequential(nn.Linear(read, settings.d_ff), nn.GELU(), nn.Dropout(settings.dropout))
        self.project = nn.Linear(settings.d_ff, settings.num_vectors * sizes.embedding)

    def forward(self, events: EventBatch) -> UserPrompt:
        """Encode each window: [B, P] interactions to [B, M, E]."""
        items = events.item_vectors.flatten(1)[events.item]  # [B, P, F·S]
        numbers = events.rating_numbers[events.rating].to(items.dtype)[..., None]
        read = torch.cat([items, numbers * items, _ratings(events)[events.rating]], dim=-1)
        shown = events.mask[..., None].to(read.dtype)
        mean = (read * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)  # [B, read]
        embeddings = self.project(self.hidden(self.norm(mean))).unflatten(1, self.shape)
        return UserPrompt(embeddings, events.mask.new_ones(embeddings.shape[:2]))


def _ratings(events: EventBatch) -> Tensor:
    """Join the vector of each rating value and its number, [R, S + 1]."""
    numbers = events.rating_numbers[:, None].to(events.rating_vectors.dtype)
    return torch.cat([events.rating_vectors, numbers], dim=-1)
