"""Scores of all items from a history: what its events say by each relation, by a network, and popularity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from palate.recommend.relations import Relation, VectorRelation, add_scores
from palate.schema import Doubles, Floats, Ints, Windows
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.recommend.network import ItemNetwork

DAY = 86_400.0
BATCH_CELLS = 20_000_000
"""Scores that are held at a time where users are many."""
LEAST = 1e-4
"""Weight below which an event of a history counts nothing."""


class EventWeights(Frozen):
    """How much an event of a history counts; the newest counts 1 where all have the same rating."""

    decay: float = 0.5
    """Factor for each newer event."""
    days: float | None = None
    """Days before the newest event after which an event counts 1/e; None where time does not matter."""
    rating: float = 0.0
    """Increase for each standard deviation of the rating above the mean; an event counts at least 0."""
    values: tuple[float, ...] = ()
    """Factor by the event's rating value where events have types; below 0 for what speaks against an item."""

    def of(self, windows: Windows, deviations: Floats) -> Floats:
        """Compute the weights of the events of B windows, [B, P], from the deviation of each rating value [R]."""
        age = np.maximum(windows.length[:, None] - 1 - np.arange(windows.item_index.shape[1]), 0)
        weight: np.ndarray = np.float32(self.decay) ** age
        if self.days is not None:
            newest = np.where(windows.mask, windows.timestamp, 0).max(axis=1, initial=0)
            weight = weight * np.exp(-np.maximum(newest[:, None] - windows.timestamp, 0) / (DAY * self.days))
        if self.rating:
            weight = weight * np.maximum(1 + self.rating * deviations[windows.rating_index], 0)
        if self.values:
            weight = weight * np.array(self.values, dtype=np.float32)[windows.rating_index]
        weights: Floats = np.where(np.abs(weight) < LEAST, 0, weight).astype(np.float32)
        return weights


class RelationWeights(Frozen):
    """Weight of a relation's scores, and of the events that they come from."""

    weight: float
    events: EventWeights = EventWeights()


class ScorerWeights(Frozen):
    """What training has learned; readable as it is saved."""

    relations: dict[str, RelationWeights]
    popularity: float = 1e-4
    """Weight of log(1 + number of the item's interactions) over that of the most popular item."""
    floor: float = 1e-3
    """Where the relations' sum turns from linear, below, to logarithmic, above, as the network's logits are."""
    network: float = 0.0
    """Weight of the network's logits."""
    sharpness: float = 1.0
    """Factor of the scores as logits of a softmax over items."""
    types: tuple[float, ...] = ()
    """What events of each rating value weigh as given, where they have types; at most 0, their item was not chosen."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores of I items by relations that are known by name."""

    relations: Mapping[str, Relation]
    popularity: Floats  # [I] from 0 to 1
    deviations: Floats  # [R] rating values in standard deviations from the mean
    weights: ScorerWeights
    network: ItemNetwork | None = None

    def scores(self, windows: Windows) -> Floats:
        """Score all items for B windows, [B, I]; an empty window gets the popularity alone."""
        scores = compressed(self._related(windows), self.weights.floor)
        if self.network is not None and self.weights.network:
            chosen = self.chosen(windows)
            personal = chosen.length > 0
            logits = self.network.logits(chosen[personal], self.deviations)
            scores[personal] += np.float32(self.weights.network) * logits
        return self._skips_last(scores, windows)

    def chosen(self, windows: Windows) -> Windows:
        """Leave out events that speak against their item, which the network does not read."""
        return chosen_windows(windows, self.weights.types)

    def _skips_last(self, scores: Floats, windows: Windows, items: Ints | None = None) -> Floats:
        """Score items that a user's events speak against in sum below all others."""
        types = np.array(self.weights.types, dtype=np.float32)
        if len(types) and types.min() < 0:
            found = event_matrix(windows, types[windows.rating_index], len(self.popularity))
            sums = (found if items is None else found[:, items]).tocoo()
            sums.sum_duplicates()
            below = sums.data < 0
            scores[sums.row[below], sums.col[below]] -= (np.ptp(scores, axis=1) + 1)[sums.row[below]]
        return scores

    def with_items(self, described: Mapping[str, VectorRelation], content: Floats) -> Scorer:
        """Add N items that nobody has interacted with.

        Args:
            described: Their relations by what is known of them.
            content: The same as one matrix, [N, S].

        Returns:
            A scorer of all items.
        """
        relations = {
            name: one.followed_by(described[name])
            if isinstance(one, VectorRelation)
            else one.padded(len(content))
            for name, one in self.relations.items()
        }
        network = None if self.network is None else self.network.with_items(content)
        popularity = np.pad(self.popularity, (0, len(content)))
        return replace(self, relations=relations, popularity=popularity, network=network)

    def _related(self, windows: Windows) -> Floats:
        popularity = np.float32(self.weights.popularity) * self.popularity
        total = np.repeat(popularity[None], len(windows), axis=0)
        for name, part in self.weights.relations.items():
            if part.weight:
                events = event_matrix(windows, part.events.of(windows, self.deviations), len(self.popularity))
                add_scores(total, self.relations[name].product(np.float32(part.weight) * events))
        return total

    def of_items(self, window: Windows, items: Ints) -> Floats:
        """Score some items for one window, [1, C], as :meth:`scores` does."""
        total = np.float32(self.weights.popularity) * self.popularity[None, items]
        for name, part in self.weights.relations.items():
            if part.weight:
                events = event_matrix(window, part.events.of(window, self.deviations), len(self.popularity))
                total += self.relations[name].of_items(np.float32(part.weight) * events, items)
        scores = compressed(total, self.weights.floor)
        chosen = self.chosen(window)
        if self.network is not None and self.weights.network and chosen.length[0]:
            scores += np.float32(self.weights.network) * self.network.logits(chosen, self.deviations, items)
        return self._skips_last(scores, window, items)

    def in_batches(self, windows: Windows) -> Iterator[tuple[slice, Floats]]:
        """Yield the scores of parts of the windows, as rows and scores [rows, I]."""
        step = max(BATCH_CELLS // max(len(self.popularity), 1), 1)
        for start in range(0, len(windows), step):
            rows = slice(start, min(start + step, len(windows)))
            yield rows, self.scores(windows[rows])

    def log_odds(self, scores: Floats) -> Floats:
        """Convert scores to the logits of a softmax over items."""
        sharpened: Floats = np.float32(self.weights.sharpness) * scores
        return sharpened


def chosen_windows(windows: Windows, types: tuple[float, ...]) -> Windows:
    """Leave out events that weigh at most 0 by their rating value, where ``types`` says what each weighs."""
    return windows.where((np.array(types) > 0)[windows.rating_index]) if types else windows


def compressed(total: Floats, floor: float) -> Floats:
    """Make log-odds of the relations' sums: the logarithm far above ``floor``, and linear about zero."""
    found: Floats = total * np.float32(1 / (2 * floor))
    return np.arcsinh(found, out=found)


def event_matrix(windows: Windows, weight: Floats | Doubles, items: int) -> sparse.csr_matrix:
    """Sum the weights [B, P] of the windows' events by item, [B, I]; repeated events of an item add up."""
    row, at = np.nonzero(windows.mask & (weight != 0))
    entries = (weight[row, at], (row, windows.item_index[row, at]))
    return sparse.csr_matrix(entries, shape=(len(windows), items))


def popularity_of(counts: Floats) -> Floats:
    """Scale numbers of interactions [I] logarithmically to at most 1."""
    logs = np.log1p(counts).astype(np.float32)
    scaled: Floats = logs / max(float(logs.max(initial=0.0)), 1.0)
    return scaled
