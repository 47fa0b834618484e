"""Published user encoders with palate's additions: categories as input, standardised inputs, a view, and names.

Each kind is available with and without them, so that a comparison can tell the architecture from its inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from palate.config.recipe import EquippedSettings
from palate.encoders.base import EncoderSizes, UserPrompt, spread_of
from palate.encoders.ranking import NamedCategories
from palate.items.categories import MEMBER

if TYPE_CHECKING:
    from palate.encoders.batch import CategoryEvents, VectorCatalogue

CATEGORY_GAIN, RATING_GAIN = 2.0, 6.0
"""Initial gains of the category and rating channels, which are few; 1 for the others."""


class EquippedEncoder(nn.Module):
    """A user encoder with narrow standardised inputs, category logits, and names of selected categories.

    - ``item`` maps an item's vectors and its categories (0 or 1 each) to ``d_model`` channels, ``rating`` a rating's
      vector and number. They are initialised to standardise over the catalogue: the first channels are the
      categories, one is the rating.
    - The *view* is a head on the mean and the maximum of the user prompt, with logits that each category is liked and
      disliked. Its auxiliary loss trains the user encoder before the backbone can read the user prompt.
    - Embeddings of the likeliest categories' names, by the view, are prepended to the user prompt.

    Args:
        settings: Which of these additions it has.
        sizes: Sizes of the data and the backbone.
        encoder: The user encoder, of one field of ``d_model`` values.
    """

    def __init__(self, settings: EquippedSettings, sizes: EncoderSizes, encoder: nn.Module) -> None:
        super().__init__()
        self.settings, self.labels, self.encoder = settings, sizes.categories, encoder
        exact = sizes.categories if settings.categories else 0
        self.item = nn.Linear(sizes.fields * sizes.vector + exact, settings.d_model)
        self.rating = nn.Linear(sizes.vector + 1, settings.d_model)
        self.view: nn.Module | None = None
        self.named: NamedCategories | None = None
        if settings.view:
            read = 2 * sizes.embedding
            self.view = nn.Sequential(
                nn.LayerNorm(read),
                nn.Linear(read, settings.d_model),
                nn.GELU(),
                nn.Linear(settings.d_model, 2 * sizes.categories),
            )
        if settings.named:
            self.named = NamedCategories(settings.named, sizes.categories, sizes.embedding)

    @torch.no_grad()
    def start_from(self, table: VectorCatalogue, probe_weights: Tensor, chosen: Tensor) -> None:
        """Initialise the inputs from the differences between items and between ratings.

        Vectors of texts from one template have a large common part without information: it is subtracted, and the
        rest scaled to unit variance. The first C channels are the categories, exact if the encoder reads them and
        otherwise predicted by a linear probe on the item vectors; the next channel is the rating's number.

        Args:
            table: Vectors of all items and rating values.
            probe_weights: Weights of a linear probe for C categories, [C, F·S].
            chosen: Indices of these categories, [C].
        """
        items, ratings = table.item_vectors.flatten(1), table.rating_vectors
        size, count = items.shape[1], len(chosen)
        self._standardise(self.item, items)
        weight, bias = self.item.weight, self.item.bias
        weight[:count], bias[:count] = 0, 0
        if self.settings.categories:
            weight[torch.arange(count), size + chosen] = CATEGORY_GAIN
        else:
            told = (items @ probe_weights.T).std(dim=0).clamp(min=1e-4)
            weight[:count, :size] = CATEGORY_GAIN * probe_weights / told[:, None]
            bias[:count] = -weight[:count, :size] @ items.mean(dim=0)
        self._standardise(self.rating, ratings)
        self.rating.weight[:count], self.rating.bias[:count] = 0, 0
        self.rating.weight[count], self.rating.bias[count] = 0, 0
        self.rating.weight[count, -1] = RATING_GAIN
        self.item.weight[count], self.item.bias[count] = (
            0,
            0,
        )  # item and rating are added: this channel is the rating's alone

    @staticmethod
    def _standardise(layer: nn.Linear, vectors: Tensor) -> None:
        """Initialise a layer to random projections of the standardised vectors [N, S], and its other inputs to 0."""
        mean, spread = vectors.mean(dim=0), spread_of(vectors.std(dim=0))
        size = len(mean)
        layer.weight.zero_()
        layer.weight[:, :size].normal_(std=size**-0.5).div_(spread)
        layer.bias.copy_(-layer.weight[:, :size] @ mean)

    def forward(self, events: CategoryEvents) -> UserPrompt:
        """Encode each window: [B, P] interactions to [B, M, E], with logits [B, L, 2] if there is a view."""
        read = events.vectors
        assert read is not None, "an equipped encoder's table holds item vectors"
        items = read.item_vectors.flatten(1)  # [N, F·S]
        if self.settings.categories:
            exact = events.membership[:, : self.labels].to(items.dtype) / MEMBER
            items = torch.cat([items, exact], dim=1)
        numbers = read.rating_numbers[:, None].to(read.rating_vectors.dtype)
        narrow = replace(
            read,
            item_vectors=self.item(items)[:, None],  # [N, 1, d_model]
            rating_vectors=self.rating(torch.cat([read.rating_vectors, numbers], dim=1)),  # [R, d_model]
        )
        user: UserPrompt = self.encoder(narrow)
        if self.view is None:
            return user
        logits = self.view(_pooled(user)).unflatten(1, (-1, 2))  # [B, L, 2]
        if self.named is None:
            return replace(user, category_logits=logits)
        names = self.named(logits).to(user.embeddings.dtype)  # [B, 2 · named, E]
        return UserPrompt(
            torch.cat([names, user.embeddings], dim=1),  # so that padding remains at the end
            torch.cat([user.mask.new_ones(names.shape[:2]), user.mask], dim=1),
            logits,
        )


def _pooled(user: UserPrompt) -> Tensor:
    """Return the mean and the maximum of each user's vectors, [B, 2 · E]; zeros of an empty user prompt."""
    shown = user.mask[..., None]
    vectors = user.embeddings.float()
    mean = (vectors * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)
    most = vectors.masked_fill(~shown, torch.finfo(vectors.dtype).min).amax(dim=1)
    return torch.cat([mean, most.where(shown.any(dim=1), torch.zeros_like(most))], dim=1)
