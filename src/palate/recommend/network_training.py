"""Trains the item network by softmax cross-entropy over all items.

With order, the target is the next item; without, a random part of each history, predicted from the rest. Item vectors
are initialised by a singular value decomposition of the item relations, and the projection of texts and categories by
ridge regression onto these, so that a few epochs are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional

from palate.recommend.event_weights import EventWeights
from palate.recommend.network import NORM_EPSILON, ItemNetwork, QueryNetwork, pooled_events
from palate.schema import Floats, Indices, Interactions, Ints, Windows

if TYPE_CHECKING:
    from palate.config.recipe import RecommendSettings

BATCH = 256
PER_EPOCH = 50_000
"""Maximum number of histories per epoch; early stopping validates after each epoch."""
NEWEST = 50
"""Maximum history length in training, with order."""
SAMPLED_ABOVE = 100_000
NEGATIVES = 8_192
"""Sampled negatives of the softmax where the catalogue has more than :data:`SAMPLED_ABOVE` items."""
PATIENCE = 2
ID_DROPOUT = 0.2
"""Share of items whose learned embedding is dropped in a step, where items have texts or categories."""
PROJECTION_PENALTY = 10.0
PARTS = 8
"""Random parts of each history that an epoch hides, without order."""
KEPT_SHARES = (0.2, 0.8)
"""Range of the share of a history that is shown, without order; the rest is predicted."""


@dataclass(frozen=True, eq=False)
class NetworkData:
    """Training data of the network."""

    events: Interactions
    related: sparse.csr_matrix  # [I, I] item relations that initialise the item vectors
    content: Floats  # [I, S] text and category vectors; S is 0 without content
    deviations: Floats  # [R]
    ordered: bool
    timed: bool

    @property
    def poolings(self) -> tuple[EventWeights, ...]:
        """Event weights of each sum that the query is computed from."""
        if not self.ordered:
            return (EventWeights(decay=1.0),)
        by_order = tuple(EventWeights(decay=decay) for decay in (0.0, 0.5, 0.8, 1.0))
        return (*by_order, EventWeights(decay=1.0, days=30.0)) if self.timed else by_order


@dataclass(frozen=True, eq=False)
class _Batch:
    """B histories and N targets."""

    windows: Windows
    row: Ints  # [N] history of each target
    item: Indices  # [N]


def train_network(
    data: NetworkData,
    settings: RecommendSettings,
    seed: int,
    validate: Callable[[ItemNetwork], float] | None = None,
    epochs: int | None = None,
) -> tuple[ItemNetwork, int]:
    """Train a network, with early stopping if it is validated.

    Args:
        data: Training data.
        settings: Size, dropout, learning rate and maximum number of epochs.
        seed: Seed of data order, initial weights and dropout.
        validate: Scores a network, higher is better. Training stops after two epochs without a rise, and the best
            network is returned.
        epochs: Number of epochs; the maximum of the settings by default.

    Returns:
        The network, and the number of epochs that it was trained for.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Training(data, settings, np.random.default_rng(seed)).run(
            settings.network_epochs if epochs is None else epochs, validate
        )


class _Net(nn.Module):
    """The network as a torch module; its parameters are the arrays of :class:`ItemNetwork`."""

    def __init__(self, data: NetworkData, size: int, dropout: float, seed: int) -> None:
        super().__init__()
        start, projection = _start(data, size, seed)
        sums = len(data.poolings) * size
        counts = np.bincount(data.events.item_index, minlength=len(data.content))
        self.shares = torch.from_numpy(np.log((counts + 0.5) / (len(data.events) + 0.5)).astype(np.float32))
        self.unknown = np.full(1, np.log(0.5 / (len(data.events) + 0.5)), dtype=np.float32)
        self.known = torch.from_numpy((counts > 0).astype(np.float32))[:, None]
        self.ids = nn.Parameter(torch.from_numpy(start - data.content @ projection))
        self.projection = nn.Parameter(torch.from_numpy(projection))
        self.offsets = nn.Parameter(torch.zeros(len(counts)))
        self.maps = nn.Parameter(torch.eye(size).repeat(len(data.poolings), 1) / len(data.poolings))
        self.hidden = nn.Parameter(torch.randn(sums, 2 * size) / sums**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(2 * size))
        self.output = nn.Parameter(torch.zeros(2 * size, size))
        self.content = torch.from_numpy(data.content)
        self.dropout = dropout

    def vectors(self) -> Tensor:
        """Compute item vectors, [I, D]."""
        ids = self.ids * self.known
        if not self.content.shape[1]:
            return ids
        if self.training:
            ids = ids * (torch.rand(len(ids), 1) >= ID_DROPOUT)
        return ids + self.content @ self.projection

    def bias(self) -> Tensor:
        """Compute item biases, [I]: log popularity plus a learned offset for items with interactions."""
        return self.shares + self.offsets * self.known[:, 0]

    def forward(self, events: sparse.csr_matrix, vectors: Tensor, rows: int) -> Tensor:
        """Compute queries [B, D] from item weights by each pooling [K * B, I]."""
        pooled: Tensor = _Pooled.apply(vectors, events)  # type: ignore[no-untyped-call]
        sums = pooled.view(-1, rows, pooled.shape[1]).transpose(0, 1).flatten(1)  # [B, K * D]
        shown = functional.dropout(sums, self.dropout, self.training)
        normal = functional.layer_norm(shown, shown.shape[1:], eps=NORM_EPSILON)
        active = functional.gelu(normal @ self.hidden + self.hidden_bias)
        return shown @ self.maps + functional.dropout(active, self.dropout, self.training) @ self.output

    def frozen(self, poolings: tuple[EventWeights, ...]) -> ItemNetwork:
        """Copy the learned arrays to a network for inference."""

        def array(value: Tensor) -> Floats:
            copy: Floats = value.detach().numpy().copy()
            return copy

        self.eval()
        vectors = array(self.vectors())
        self.train()
        query = QueryNetwork(
            array(self.maps), array(self.hidden), array(self.hidden_bias), array(self.output)
        )
        return ItemNetwork(poolings, query, vectors, array(self.bias()), array(self.projection), self.unknown)


class _Pooled(torch.autograd.Function):
    """Product of a constant sparse matrix and item vectors; scipy is faster than torch on one thread."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, events: sparse.csr_matrix) -> Tensor:
        ctx.events = events
        return torch.from_numpy(events @ vectors.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.events.T @ gradients[0].contiguous().numpy()), None


class _Training:
    def __init__(self, data: NetworkData, settings: RecommendSettings, rng: np.random.Generator) -> None:
        self.data, self.rng = data, rng
        self.items = len(data.content)
        seed = int(rng.integers(2**31))
        self.net = _Net(data, settings.network_size, settings.network_dropout, seed)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=settings.network_learning_rate)
        self.share = np.bincount(data.events.item_index, minlength=self.items) / len(data.events)

    def run(self, epochs: int, validate: Callable[[ItemNetwork], float] | None) -> tuple[ItemNetwork, int]:
        best, reached, value = self.net.frozen(self.data.poolings), 0, -np.inf
        if validate is not None:
            value = validate(best)
        for epoch in range(1, epochs + 1):
            for batch in self._batches():
                self.optimizer.zero_grad(set_to_none=True)
                self._loss(batch).backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
            found = self.net.frozen(self.data.poolings)
            now = epoch if validate is None else validate(found)
            if now > value:
                best, reached, value = found, epoch, now
            elif epoch - reached >= PATIENCE:
                break
        return best, reached

    def _batches(self) -> Iterator[_Batch]:
        return self._next_items() if self.data.ordered else self._hidden_parts()

    def _next_items(self) -> Iterator[_Batch]:
        events = self.data.events
        start = events.offsets[events.owner]
        rows = self.rng.permutation(np.flatnonzero(np.arange(len(events)) > start))[:PER_EPOCH]
        for at in range(0, len(rows), BATCH):
            chosen = rows[at : at + BATCH]
            windows = windows_before(events, chosen, NEWEST)
            yield _Batch(windows, np.arange(len(chosen)), events.item_index[chosen])

    def _hidden_parts(self) -> Iterator[_Batch]:
        events = self.data.events
        able = np.flatnonzero(events.lengths >= 2)
        users = np.concatenate([self.rng.permutation(able) for _ in range(PARTS)])[:PER_EPOCH]
        for at in range(0, len(users), BATCH):
            histories = events.of_users(users[at : at + BATCH])
            owner = histories.owner
            share = self.rng.uniform(*KEPT_SHARES, len(histories.lengths))[owner]
            shown = self.rng.random(len(histories)) < share
            lengths = np.bincount(owner[shown], minlength=len(histories.lengths))
            yield _Batch(
                all_windows(histories.take(shown, lengths)), owner[~shown], histories.item_index[~shown]
            )

    def _loss(self, batch: _Batch) -> Tensor:
        """Compute mean cross-entropy of the targets; without order, shown items are masked."""
        number = len(batch.windows)
        events = pooled_events(batch.windows, self.data.poolings, self.data.deviations, self.items)
        vectors = self.net.vectors()
        query = self.net(events, vectors, number)
        row, item = torch.from_numpy(batch.row), torch.from_numpy(batch.item.astype(np.int64))
        if self.items > SAMPLED_ABOVE:
            columns, chance = self._sampled(batch)
            place = torch.from_numpy(np.searchsorted(columns, batch.item))
            chosen = torch.from_numpy(columns)
            logits = query @ vectors[chosen].T + self.net.bias()[chosen]
            own = torch.zeros(logits.shape, dtype=torch.bool)
            own[row, place] = True  # targets are in the sample with certainty
            logits = logits - torch.where(own, 0.0, torch.from_numpy(np.log(chance).astype(np.float32)))
        else:
            place, logits = item, query @ vectors.T + self.net.bias()
        if not self.data.ordered and self.items <= SAMPLED_ABOVE:
            shown = torch.from_numpy(events[:number].toarray() > 0)
            logits = logits.masked_fill(shown, -torch.inf)
        return -functional.log_softmax(logits, dim=1)[row, place].mean()

    def _sampled(self, batch: _Batch) -> tuple[Ints, Floats]:
        """Sample negatives and add the targets; returns the items and the probability that each is in the sample."""
        weight = self.share**0.75 + 1e-9
        weight /= weight.sum()
        drawn = self.rng.choice(self.items, NEGATIVES, p=weight)
        columns = np.unique(np.concatenate([drawn, batch.item]))
        expected = NEGATIVES * weight[columns] + len(batch.item) * self.share[columns]
        return columns, -np.expm1(-expected)


def windows_before(events: Interactions, rows: Ints, most: int) -> Windows:
    """Return windows of at most ``most`` interactions before each row [B], of the same user."""
    length = np.minimum(rows - events.offsets[events.owner[rows]], most)
    width = max(int(length.max(initial=0)), 1)
    at = np.clip((rows - length)[:, None] + np.arange(width), 0, len(events) - 1)
    return _windows(events, at, length)


def all_windows(events: Interactions) -> Windows:
    """Return windows of whole histories."""
    width = max(int(events.lengths.max(initial=0)), 1)
    at = np.clip(events.offsets[:-1, None] + np.arange(width), 0, max(len(events) - 1, 0))
    return _windows(events, at, events.lengths)


def _windows(events: Interactions, at: Ints, length: Ints) -> Windows:
    mask = np.arange(at.shape[1]) < length[:, None]
    return Windows(
        np.where(mask, events.item_index[at], 0).astype(np.int32),
        np.where(mask, events.rating_index[at], 0).astype(np.uint8),
        np.where(mask, events.timestamp[at], 0),
        length,
    )


def _start(data: NetworkData, size: int, seed: int) -> tuple[Floats, Floats]:
    """Initialise item vectors [I, D] and the content projection [S, D]."""
    symmetric = data.related + data.related.T
    left, values, _ = randomized_svd(symmetric, min(size, min(symmetric.shape) - 1), random_state=seed)
    vectors = np.zeros((len(data.content), size), dtype=np.float32)
    vectors[:, : left.shape[1]] = left * np.sqrt(values)
    vectors /= max(float(np.sqrt((vectors**2).sum(axis=1).mean())), 1e-6)
    content = data.content.astype(np.float64)
    gram = content.T @ content + PROJECTION_PENALTY * np.eye(content.shape[1])
    projection = np.linalg.solve(gram, content.T @ vectors).astype(np.float32)
    return vectors, projection
