"""Vectors of users who were not trained on, computed by a palate user encoder in place of PEPLER's user ids.

The encoder maps a user's known events, optionally with their texts, to one vector. It is
trained after PEPLER, with PEPLER's loss and all other weights frozen; the event to explain is never an input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from palate.encoders.base import EncoderSizes
from palate.encoders.batch import VectorCatalogue, window_tensors
from palate.encoders.kinds import build_user_encoder
from palate.items.encoder import ItemEncoder
from palate.items.event_texts import with_event_texts
from palate.schema import Windows

SMALL = 0.01
"""Initial scale of the encoder's offsets from the mean trained vector."""
WIDEST = 2.0
"""Maximum distance of a vector from the mean trained vector per dimension, in standard deviations; beyond it
the rating network saturates and has no gradients."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.config.recipe import Recipe
    from palate.config.section import KindSettings
    from palate.data.dataset import Dataset
    from palate.generative.pepler_cases import RatedTexts, RatedTextSplit
    from palate.items.table import ItemTable
    from palate.schema import Interactions, Ints


class NewcomerEncoder(nn.Module):
    """A user encoder whose mean-pooled user prompt is a bounded offset from the mean trained vector."""

    start: Tensor  # [E] the mean trained vector, from which an untrained encoder hardly differs
    spread: Tensor  # [E] largest difference from it

    def __init__(self, encoder: nn.Module, catalogue: VectorCatalogue, trained: Tensor) -> None:
        super().__init__()
        size = trained.shape[1]
        self.encoder, self.catalogue = encoder, catalogue
        self.register_buffer("start", trained.detach().mean(dim=0))
        self.register_buffer("spread", WIDEST * trained.detach().std(dim=0, correction=0))
        self.project = nn.Linear(size, size)
        nn.init.normal_(self.project.weight, std=SMALL * size**-0.5)
        nn.init.zeros_(self.project.bias)

    def forward(self, windows: Windows) -> Tensor:
        """Encode B windows, [B, E]; an empty one has the mean trained vector."""
        device = self.start.device
        user = self.encoder(self.catalogue(**window_tensors(windows, device)))
        shown = user.mask[..., None].to(user.embeddings.dtype)
        mean = (user.embeddings * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)
        told = torch.from_numpy(windows.length > 0).to(device)[:, None]
        vectors: Tensor = self.start + self.spread * self.project(mean).tanh() * told
        return vectors


@dataclass(frozen=True, eq=False)
class KnownHistories:
    """The known events of each user, oldest first, with their texts."""

    events: Interactions
    rows: list[Ints]  # [U]
    most: int

    @classmethod
    def of(cls, events: Interactions, split: RatedTextSplit, most: int) -> KnownHistories:
        """Collect the known events of each user."""
        every = np.flatnonzero(split.known)
        ends = np.searchsorted(every, events.offsets[1:])
        return cls(events, np.split(every, ends[:-1]), most)

    def windows(self, cases: RatedTexts) -> Windows:
        """Build the windows of N interactions: the newest known events of their users, the interactions excluded."""
        found = []
        for user, row in zip(cases.user.tolist(), cases.row.tolist(), strict=True):
            known = self.rows[user]
            found.append(known[known != row][-self.most :])
        return _windows(self.events, found)


def _windows(events: Interactions, rows: Sequence[Ints]) -> Windows:
    length = np.array([len(one) for one in rows], dtype=np.int64)
    mask = np.arange(max(int(length.max(initial=0)), 1)) < length[:, None]
    table = np.zeros(mask.shape, dtype=np.int64)
    table[mask] = np.concatenate(rows)
    columns = (
        np.where(mask, events.item_index[table], 0).astype(np.int32),
        np.where(mask, events.rating_index[table], 0).astype(np.uint8),
        np.where(mask, events.timestamp[table], 0),
    )
    texts = None
    if events.texts is not None:
        texts = type(events.texts)(np.where(mask, events.texts.row[table], 0), events.texts.vectors)
    return Windows(*columns, length, texts=texts)


def newcomer_histories(recipe: Recipe, dataset: Dataset, split: RatedTextSplit) -> KnownHistories:
    """Collect the known events of each user, with text vectors if ``model.event_texts`` is set."""
    assert recipe.pepler is not None
    events = dataset.interactions
    if recipe.model.event_texts:
        events = with_event_texts(dataset, ItemEncoder(recipe.items)).interactions
    return KnownHistories.of(events, split, recipe.pepler.newcomer_window)


def new_newcomer_encoder(
    settings: KindSettings, table: ItemTable, event_texts: bool, categories: int, trained: Tensor
) -> NewcomerEncoder:
    """Build a user encoder with random weights, drawn from torch's global generator.

    Args:
        settings: The user encoder, of a kind that reads vectors.
        table: The items.
        event_texts: Whether the texts of events are one more field.
        categories: Number of categories of the data.
        trained: Vectors of the users who were trained on, [U, E].

    Returns:
        The encoder.
    """
    fields = table.vectors.shape[1] + event_texts
    sizes = EncoderSizes(fields, table.size, trained.shape[1], categories)
    encoder = build_user_encoder(settings, sizes)
    return NewcomerEncoder(encoder, VectorCatalogue(table, event_texts), trained.cpu()).to(trained.device)
