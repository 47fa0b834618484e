"""The pooled user encoder: any number of interactions pooled into a fixed number of latent queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.config import PooledSettings
from palate.model.user_encoder import EncoderSizes, UserPrompt

if TYPE_CHECKING:
    from palate.model.events import EventBatch

VALUES = 24
"""Numbers that a query pools of the items, and as many of their ratings."""
FEATURES = 2 * VALUES + 3
"""What a query knows when it has read the window: those, the mean rating, its share and its count."""
NOWHERE = -30.0
"""A logit so low that padding has no weight, and yet finite."""
ALL_ITEMS = 6.0
"""The logit with which the query that reads every item starts."""


class PooledEncoder(nn.Module):
    """Q latent queries read the window: M = Q user-prompt vectors, whatever the window's length.

    - Keys come from an item's text alone, values from item and rating: a query finds "the comedies" and reads how
      they were rated. The rating enters as a number, because sentence vectors of ratings are not in order.
    - A key is a log-probability, log σ(w·v + b): all items that a query means weigh the same, and the log of the
      softmax denominator, which is handed on, is the log of their number. A plain softmax forgets that number.
    - Each softmax has a learned null sink, which shrinks the mean of few interactions as a prior would.
    - A category's query speaks the backbone's language from the start: its user-prompt vector is the embedding of
      the category's name, moved by how much the user likes and dislikes it.
    """

    category_of_query: Tensor

    def __init__(self, settings: PooledSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        queries, width = settings.queries, settings.width
        self.key = nn.Linear(sizes.fields * sizes.vector, queries)
        self.null = nn.Parameter(torch.zeros(queries))
        self.item_value = nn.Linear(sizes.fields * sizes.vector, VALUES)
        self.rating_value = nn.Sequential(nn.Linear(1, 32), nn.GELU(), nn.Linear(32, VALUES))
        self.query = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.read = nn.Linear(FEATURES, width)
        self.compare = nn.Sequential(
            nn.Linear(queries * FEATURES, 4 * width), nn.GELU(), nn.Linear(4 * width, queries * width)
        )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, settings.heads, 2 * width, settings.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.categories = nn.Linear(queries * width, 2 * sizes.categories)
        self.project = nn.Linear(width, sizes.embedding)
        self.name = nn.Parameter(torch.randn(queries, sizes.embedding))
        self.liking = nn.Linear(2, sizes.embedding, bias=False)
        named = min(sizes.categories, queries - 1)  # the next one means every item
        self.register_buffer("category_of_query", torch.arange(named))

    @torch.no_grad()
    def start_from(self, categories: Tensor, weights: Tensor, bias: Tensor, names: Tensor) -> None:
        """Let the first queries mean categories, and the one after them every item.

        ``categories`` [C] are the categories' indices, ``weights`` [C, F·S] and ``bias`` [C] a linear probe's
        log-odds that an item has the category, and ``names`` [C, E] the names' mean backbone embeddings.
        """
        queries = len(categories)
        self.category_of_query = categories
        self.key.weight[:queries], self.key.bias[:queries] = weights, bias
        self.name[:queries] = names
        if queries < len(self.query):
            self.key.weight[queries], self.key.bias[queries] = 0.0, ALL_ITEMS

    def forward(self, events: EventBatch) -> UserPrompt:
        """Pool each window: [B, P] interactions become [B, Q, E]."""
        hidden = self._think(self._pool(events))  # [B, Q, width]
        logits = self.categories(hidden.flatten(1)).unflatten(1, (-1, 2))  # [B, L, 2]
        liking = self.liking(logits[:, self.category_of_query])  # [B, C, E]
        liking = functional.pad(liking, (0, 0, 0, hidden.shape[1] - liking.shape[1]))
        embeddings = self.name + liking + 0.5 * self.project(hidden)
        mask = embeddings.new_ones(embeddings.shape[:2], dtype=torch.bool)
        return UserPrompt(embeddings, mask, logits)

    def _pool(self, events: EventBatch) -> Tensor:
        """What each query knows of the window: [B, Q, FEATURES]."""
        items = events.item_vectors.flatten(1)  # [N, F·S]: each distinct item is projected once
        logits = functional.logsigmoid(self.key(items))[events.item]  # [B, P, Q]
        logits = logits.masked_fill(~events.mask[..., None], NOWHERE)
        with_null = torch.cat([logits, self.null.expand(len(logits), 1, -1)], dim=1)  # [B, P + 1, Q]
        denominator = with_null.logsumexp(dim=1)  # [B, Q]
        weights = (logits - denominator[:, None]).exp()  # [B, P, Q]
        numbers = events.rating_numbers[:, None]  # [R, 1]
        ratings = torch.cat([numbers, self.rating_value(numbers)], dim=-1)[events.rating]  # [B, P, 1 + V]
        values = torch.cat([ratings, self.item_value(items)[events.item]], dim=-1)  # [B, P, 1 + 2V]
        pooled = weights.transpose(1, 2) @ values  # [B, Q, 1 + 2V]
        return torch.cat([pooled, weights.sum(dim=1)[..., None], denominator[..., None]], dim=-1)

    def _think(self, features: Tensor) -> Tensor:
        """The latent queries after they have been compared with each other: [B, Q, width]."""
        compared = self.compare(features.flatten(1)).unflatten(1, self.query.shape)
        hidden = self.query + self.read(features) + compared
        for layer in self.layers:
            hidden = layer(hidden)
        normed: Tensor = self.norm(hidden)
        return normed
