"""SASRec: a causal transformer over a history's items (Kang and McAuley, 2018), with cross-entropy over all items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import nn

from palate.config.section import KindSettings
from palate.ranking.base import DevNdcg, picked
from palate.ranking.references.full_cross_entropy import full_cross_entropy
from palate.schema import Floats, Indices, Ints, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palate.data.dataset import Dataset


_DROP = 0.1
"""Factor of a learning rate drop."""
_POOL = 20
"""Batches per pool within which users are sorted by length."""


class SasRecSettings(KindSettings):
    """Settings of :class:`SasRec`."""

    kind: str = "sasrec"
    hidden_size: int = Field(64, ge=1)
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    max_length: int = Field(50, ge=1)
    """Maximum number of newest history items read."""
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(128, ge=1)
    max_epochs: int = Field(200, ge=1)
    early_stopping_patience: int = Field(3, ge=1)
    """Epochs without a higher dev NDCG@10 after which the learning rate drops or training ends."""
    learning_rate_drops: int = Field(1, ge=0)
    """Number of times that training resumes from the best weights with a tenth of the learning rate."""
    seed: int = Field(0, ge=0)


class SasRec:
    """Scores an item by the inner product of its embedding with the transformer's state at the newest item.

    Every position of a training history predicts the next item by a softmax over all items. When dev NDCG@10 plateaus,
    training resumes from the best weights at a lower learning rate, and ends when that no longer helps.
    """

    def __init__(self, settings: SasRecSettings) -> None:
        self._settings = settings
        self._network: _Transformer | None = None

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Train from the seed; dev scores alone determine the number of epochs."""
        settings = self._settings
        generator = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = self._network = _Transformer(settings, len(dataset.items))
            optimizer = torch.optim.AdamW(
                network.parameters(),
                settings.learning_rate,
                betas=(0.9, 0.98),
                weight_decay=settings.weight_decay,
            )
            best, kept, waited, drops = -1.0, _copied(network), 0, 0
            for _ in range(settings.max_epochs):
                network.train()
                for sequences in _batches(dataset, settings, generator):
                    optimizer.zero_grad()
                    network.loss(sequences).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                if (reached := dev_ndcg(self)) > best:
                    best, kept, waited = reached, _copied(network), 0
                else:
                    waited += 1
                if waited < settings.early_stopping_patience:
                    continue
                if drops == settings.learning_rate_drops:
                    break
                network.load_state_dict(kept)
                waited, drops = 0, drops + 1
                for group in optimizer.param_groups:
                    group["lr"] *= _DROP
            network.load_state_dict(kept)

    @torch.inference_mode()
    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score from the newest items of each history."""
        assert self._network is not None, "fit first"
        network = self._network.eval()
        width = min(int(windows.length.max(initial=1)), self._settings.max_length)
        newest = windows.length[:, None] - width + np.arange(width)
        items = np.take_along_axis(windows.item_index, np.maximum(newest, 0), axis=1)
        sequences = torch.from_numpy(np.where(newest >= 0, items, network.padding).astype(np.int64))
        found: Floats = network.all_scores(network(sequences)[:, -1]).numpy()
        return picked(found, candidates)


class _Transformer(nn.Module):
    """Pre-norm blocks over item and position embeddings; sequences are padded on the left."""

    def __init__(self, settings: SasRecSettings, items: int) -> None:
        super().__init__()
        size = settings.hidden_size
        self.padding, self.heads = items, settings.heads
        self.items = nn.Embedding(items + 1, size, padding_idx=items)
        self.positions = nn.Embedding(settings.max_length, size)  # index 0 is the newest item
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                size, settings.heads, size, settings.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(size)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[items] = 0

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Encode items [B, P] to hidden states [B, P, H]."""
        width = sequences.shape[1]
        from_newest = torch.arange(width - 1, -1, -1)
        states = self.dropout(
            self.items(sequences) * self.items.embedding_dim**0.5 + self.positions(from_newest)
        )
        padded = sequences == self.padding
        later = torch.ones(width, width, dtype=torch.bool).triu(1)
        # A padded position attends to itself, so that no row of the attention is empty.
        barred = (later | padded[:, None, :]) & ~torch.eye(width, dtype=torch.bool)
        mask = barred.repeat_interleave(self.heads, dim=0)
        for block in self.blocks:
            states = block(states, src_mask=mask)
        normed: torch.Tensor = self.norm(states)
        return normed

    def all_scores(self, states: torch.Tensor) -> torch.Tensor:
        """Score all items from states [N, H], [N, I]."""
        return states @ self.items.weight[: self.padding].T

    def loss(self, sequences: torch.Tensor) -> torch.Tensor:
        """Compute the mean cross-entropy of next items over all items; sequences are [B, P + 1]."""
        states, following = self(sequences[:, :-1]), sequences[:, 1:]
        asked = (following != self.padding) & (sequences[:, :-1] != self.padding)
        chosen: torch.Tensor = full_cross_entropy(
            states[asked], self.items.weight[: self.padding], following[asked]
        )
        return chosen


def _batches(
    dataset: Dataset, settings: SasRecSettings, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield the newest items of training histories in random order, left-padded, [B, P + 1]."""
    events = dataset.interactions
    users = np.flatnonzero(events.lengths >= 2)
    for batch in _by_length(users, events.lengths[users], settings.batch_size, generator):
        width = min(int(events.lengths[batch].max()), settings.max_length + 1)
        rows = events.offsets[batch + 1][:, None] - width + np.arange(width)
        inside = rows >= events.offsets[batch][:, None]
        items = np.where(inside, events.item_index[np.maximum(rows, 0)], len(dataset.items))
        yield torch.from_numpy(items.astype(np.int64))


def _by_length(users: Ints, lengths: Ints, size: int, generator: torch.Generator) -> Iterator[Ints]:
    """Yield batches of users in random order, grouped by similar lengths [U] to save padding."""
    order = torch.randperm(len(users), generator=generator).numpy()
    pools = [order[start : start + _POOL * size] for start in range(0, len(order), _POOL * size)]
    ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    starts = np.arange(0, len(ordered), size)
    for start in starts[torch.randperm(len(starts), generator=generator).numpy()]:
        yield users[ordered[start : start + size]]


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
