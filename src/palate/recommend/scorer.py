"""The scorer: item scores from a history by relations, the network and popularity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from palate.recommend.event_weights import EventWeights, event_matrix
from palate.recommend.newcomers import NewcomerWeights, newcomer_scores
from palate.recommend.relations import Relation, VectorRelation, add_scores
from palate.schema import Doubles, Floats, Ints, Windows
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.recommend.network import ItemNetwork

BATCH_CELLS = 20_000_000
"""Maximum number of scores in memory per batch."""


class RelationWeights(Frozen):
    """Weight of a relation's scores, and of the events that they are computed from."""

    weight: float
    events: EventWeights = EventWeights()


class ScorerWeights(Frozen):
    """Tuned weights of a scorer; saved in ``recommender.json``."""

    relations: dict[str, RelationWeights]
    popularity: float = 1e-4
    """Weight of popularity: log(1 + an item's interactions) relative to the most popular item."""
    floor: float = 1e-3
    """Scale at which the relations' sum is compressed: linear below, logarithmic above, to match the logits' scale."""
    network: float = 0.0
    """Weight of the network's logits."""
    sharpness: float = 1.0
    """Inverse temperature of the softmax over items."""
    types: tuple[float, ...] = ()
    """Weight of events by rating value, where events have types; an event of weight <= 0 did not choose its item."""
    newcomers: NewcomerWeights | None = None
    """Weights for new items; None scores them as the others, where training had too little to tune."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores I items for histories."""

    relations: Mapping[str, Relation]  # by name
    popularity: Floats  # [I] from 0 to 1
    deviations: Floats  # [R] rating values in standard deviations from the mean
    weights: ScorerWeights
    network: ItemNetwork | None = None
    new: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Indices of items that were added after the training, [N] ascending."""

    def scores(self, windows: Windows) -> Floats:
        """Score all items for B windows, [B, I]; an empty window gets popularity alone."""
        scores = compressed(self._related(windows), self.weights.floor)
        self._add_logits(scores, windows)
        self._set_newcomers(scores, windows, self.new, self.new)
        return self._skips_last(scores, windows)

    def _add_logits(self, scores: Floats, windows: Windows, items: Ints | None = None) -> None:
        """Add the network's logits to the scores [B, C] in place, for windows with a positive event."""
        if self.network is None or not self.weights.network:
            return
        chosen = self.chosen(windows)
        personal = chosen.length > 0
        logits = self.network.logits(chosen[personal], self.deviations, items)
        logits *= np.float32(self.weights.network)
        if personal.all():  # avoids a copy of a large catalogue's scores
            scores += logits
        else:
            scores[personal] += logits

    def _set_newcomers(self, scores: Floats, windows: Windows, items: Ints, columns: Ints) -> None:
        """Overwrite the scores of new items [C] in the given columns, for windows with a positive event."""
        if self.weights.newcomers is None or not len(items):
            return
        chosen = self.chosen(windows)
        personal = np.flatnonzero(chosen.length > 0)
        found = newcomer_scores(
            self.weights.newcomers, self.relations, chosen[personal], self.deviations, items
        )
        scores[np.ix_(personal, columns)] = found

    def chosen(self, windows: Windows) -> Windows:
        """Drop events that count against their item, which the network does not read."""
        return chosen_windows(windows, self.weights.types)

    def _skips_last(self, scores: Floats, windows: Windows, items: Ints | None = None) -> Floats:
        """Move items whose events sum to less than 0 below all others."""
        types = np.array(self.weights.types, dtype=np.float32)
        if len(types) and types.min() < 0:
            found = event_matrix(windows, types[windows.rating_index], len(self.popularity))
            sums = (found if items is None else found[:, items]).tocoo()
            sums.sum_duplicates()
            below = sums.data < 0
            scores[sums.row[below], sums.col[below]] -= (np.ptp(scores, axis=1) + 1)[sums.row[below]]
        return scores

    def with_items(self, described: Mapping[str, VectorRelation], content: Floats) -> Scorer:
        """Return a scorer with N additional items without interactions.

        Args:
            described: Content relations of the new items.
            content: Their content vectors, [N, S].

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
        new = np.concatenate([self.new, np.arange(len(self.popularity), len(popularity))])
        return replace(self, relations=relations, popularity=popularity, network=network, new=new)

    def _related(self, windows: Windows) -> Floats:
        total = np.empty((len(windows), len(self.popularity)), dtype=np.float32)
        np.multiply(self.popularity, np.float32(self.weights.popularity), out=total)
        for name, part in self.weights.relations.items():
            if part.weight:
                events = event_matrix(windows, part.events.of(windows, self.deviations), len(self.popularity))
                add_scores(total, self.relations[name].product(np.float32(part.weight) * events))
        return total

    def of_items(self, windows: Windows, items: Ints) -> Floats:
        """Score the given items for B windows, [B, C], as :meth:`scores` does."""
        popularity = np.float32(self.weights.popularity) * self.popularity[None, items]
        total = np.repeat(popularity, len(windows), axis=0)
        for name, part in self.weights.relations.items():
            if part.weight:
                events = event_matrix(windows, part.events.of(windows, self.deviations), len(self.popularity))
                total += self.relations[name].of_items(np.float32(part.weight) * events, items)
        scores = compressed(total, self.weights.floor)
        self._add_logits(scores, windows, items)
        columns = np.flatnonzero(np.isin(items, self.new))
        self._set_newcomers(scores, windows, items[columns], columns)
        return self._skips_last(scores, windows, items)

    def in_batches(self, windows: Windows) -> Iterator[tuple[slice, Floats]]:
        """Yield rows and their scores [rows, I], in batches that bound memory."""
        step = max(BATCH_CELLS // max(len(self.popularity), 1), 1)
        for start in range(0, len(windows), step):
            rows = slice(start, min(start + step, len(windows)))
            yield rows, self.scores(windows[rows])

    def log_odds(self, scores: Floats) -> Floats:
        """Convert scores to the logits of a softmax over items."""
        sharpened: Floats = np.float32(self.weights.sharpness) * scores
        return sharpened


def chosen_windows(windows: Windows, types: tuple[float, ...]) -> Windows:
    """Drop events of rating values with weight <= 0, where ``types`` gives the weights; [B, P]."""
    return windows.where((np.array(types) > 0)[windows.rating_index]) if types else windows


def compressed(total: Floats, floor: float) -> Floats:
    """Compress the relations' sums by arcsinh: linear near zero, logarithmic far above ``floor``."""
    found: Floats = total * np.float32(1 / (2 * floor))
    return np.arcsinh(found, out=found)


def popularity_of(counts: Floats) -> Floats:
    """Scale numbers of interactions [I] logarithmically to the range 0 to 1."""
    logs = np.log1p(counts).astype(np.float32)
    scaled: Floats = logs / max(float(logs.max(initial=0.0)), 1.0)
    return scaled


def popularity_weights(popularity: Floats) -> Doubles:
    """Invert :func:`popularity_of` up to a factor: weights about proportional to numbers of interactions, [I].

    The least popular item with interactions is assumed to have one.
    """
    least = float(popularity[popularity > 0].min(initial=1.0))
    weights: Doubles = np.expm1(popularity.astype(np.float64) * np.log(2) / least) + 1e-6
    return weights
