"""Trains the network by a softmax over all items, on what follows, or on a random part of a history from the others.

The item vectors start from a singular value decomposition of the relations between items, and the projection of texts
and categories from a ridge regression of these, so that a few epochs are enough.
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
"""Histories that an epoch predicts from at most; early stopping looks at the network after each."""
NEWEST = 50
"""Interactions before the predicted one that are read in training, where order counts."""
SAMPLED_ABOVE = 100_000
NEGATIVES = 8_192
"""Items that the softmax goes over where the catalogue has more than :data:`SAMPLED_ABOVE`."""
PATIENCE = 2
ID_DROPOUT = 0.2
"""Share of the items that a step sees without their learned vectors, where they have texts or categories."""
PROJECTION_PENALTY = 10.0
PARTS = 8
"""Parts of each history that an epoch hides where order means nothing."""
KEPT_SHARES = (0.2, 0.8)
"""Range of the share of a history that is shown where order means nothing; the rest is predicted."""


@dataclass(frozen=True, eq=False)
class NetworkData:
    """What a network is trained on."""

    events: Interactions
    related: sparse.csr_matrix  # [I, I] relations between items, where the item vectors start from
    content: Floats  # [I, S] texts and categories as vectors; S is 0 without these
    deviations: Floats  # [R]
    ordered: bool
    timed: bool

    @property
    def poolings(self) -> tuple[EventWeights, ...]:
        """How events count in the sums that a query is made of."""
        if not self.ordered:
            return (EventWeights(decay=1.0),)
        by_order = tuple(EventWeights(decay=decay) for decay in (0.0, 0.5, 0.8, 1.0))
        return (*by_order, EventWeights(decay=1.0, days=30.0)) if self.timed else by_order


@dataclass(frozen=True, eq=False)
class _Batch:
    """B histories, and the N items that are to be predicted from them."""

    windows: Windows
    row: Ints  # [N] into the histories
    item: Indices  # [N]


def train_network(
    data: NetworkData,
    settings: RecommendSettings,
    seed: int,
    validate: Callable[[ItemNetwork], float] | None = None,
    epochs: int | None = None,
) -> tuple[ItemNetwork, int]:
    """Train a network.

    Args:
        data: What to learn from.
        settings: Size, dropout and learning rate, and the maximum number of epochs.
        seed: Seed of the order of the data and of dropout.
        validate: Measures a network, higher is better; training stops when it has not risen for two epochs, and the
            best is returned.
        epochs: Number of epochs; the settings' maximum if left out.

    Returns:
        The network, and the number of epochs that it was trained for.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Training(data, settings, np.random.default_rng(seed)).run(
            settings.network_epochs if epochs is None else epochs, validate
        )


class _Net(nn.Module):
    """The network in training; its arrays are those of :class:`ItemNetwork`."""

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
        """Item vectors, [I, D]."""
        ids = self.ids * self.known
        if not self.content.shape[1]:
            return ids
        if self.training:
            ids = ids * (torch.rand(len(ids), 1) >= ID_DROPOUT)
        return ids + self.content @ self.projection

    def bias(self) -> Tensor:
        """Logit of each item with nothing known of the user, [I]; that of an unknown item is not learned."""
        return self.shares + self.offsets * self.known[:, 0]

    def forward(self, events: sparse.csr_matrix, vectors: Tensor, rows: int) -> Tensor:
        """Compute queries [B, D] from the weights of their items by each pooling [K * B, I]."""
        pooled: Tensor = _Pooled.apply(vectors, events)  # type: ignore[no-untyped-call]
        sums = pooled.view(-1, rows, pooled.shape[1]).transpose(0, 1).flatten(1)  # [B, K * D]
        shown = functional.dropout(sums, self.dropout, self.training)
        normal = functional.layer_norm(shown, shown.shape[1:], eps=NORM_EPSILON)
        active = functional.gelu(normal @ self.hidden + self.hidden_bias)
        return shown @ self.maps + functional.dropout(active, self.dropout, self.training) @ self.output

    def frozen(self, poolings: tuple[EventWeights, ...]) -> ItemNetwork:
        """Copy what was learned."""

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
    """Product of a constant sparse matrix and item vectors: scipy's is faster than torch's on one thread."""

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
        """Mean cross-entropy of the items to predict; without order, among those that are not shown."""
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
            own[row, place] = True  # these are there for certain
            logits = logits - torch.where(own, 0.0, torch.from_numpy(np.log(chance).astype(np.float32)))
        else:
            place, logits = item, query @ vectors.T + self.net.bias()
        if not self.data.ordered and self.items <= SAMPLED_ABOVE:
            shown = torch.from_numpy(events[:number].toarray() > 0)
            logits = logits.masked_fill(shown, -torch.inf)
        return -functional.log_softmax(logits, dim=1)[row, place].mean()

    def _sampled(self, batch: _Batch) -> tuple[Ints, Floats]:
        """Items of a batch and drawn ones, with the chance that each is there."""
        weight = self.share**0.75 + 1e-9
        weight /= weight.sum()
        drawn = self.rng.choice(self.items, NEGATIVES, p=weight)
        columns = np.unique(np.concatenate([drawn, batch.item]))
        expected = NEGATIVES * weight[columns] + len(batch.item) * self.share[columns]
        return columns, -np.expm1(-expected)


def windows_before(events: Interactions, rows: Ints, most: int) -> Windows:
    """Windows of at most ``most`` interactions before each of some rows [B], of the same user."""
    length = np.minimum(rows - events.offsets[events.owner[rows]], most)
    width = max(int(length.max(initial=0)), 1)
    at = np.clip((rows - length)[:, None] + np.arange(width), 0, len(events) - 1)
    return _windows(events, at, length)


def all_windows(events: Interactions) -> Windows:
    """Windows of whole histories."""
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
    """Item vectors [I, D] and the projection [S, D] that training starts from."""
    symmetric = data.related + data.related.T
    left, values, _ = randomized_svd(symmetric, min(size, min(symmetric.shape) - 1), random_state=seed)
    vectors = np.zeros((len(data.content), size), dtype=np.float32)
    vectors[:, : left.shape[1]] = left * np.sqrt(values)
    vectors /= max(float(np.sqrt((vectors**2).sum(axis=1).mean())), 1e-6)
    content = data.content.astype(np.float64)
    gram = content.T @ content + PROJECTION_PENALTY * np.eye(content.shape[1])
    projection = np.linalg.solve(gram, content.T @ vectors).astype(np.float32)
    return vectors, projection
