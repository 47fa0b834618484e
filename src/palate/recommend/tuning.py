"""Learns the scorer's weights by the ranks of held-out items: coordinate ascent on NDCG over fixed grids.

The held-out users' interactions are not counted in the relations, so that the weights are those for new data. Where
users are few, all are held out in turn, by folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.recommend.held_out import HeldOut
from palate.recommend.relations import regression
from palate.recommend.scorer import EventWeights, RelationWeights, Scorer, ScorerWeights, event_matrix
from palate.schema import Floats, Indices, Interactions, Ints, Windows

DEPTH = 50
"""Ranks below this one count nothing."""
COLUMNS = 20_000
"""Items that the held-out ones are ranked among; a sample of the catalogue where it has more."""
CELLS = 24_000_000
"""Scores of one relation that are held in memory."""
WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
DECAYS = (1.0, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2)
DAYS = (None, 1000.0, 200.0, 50.0, 10.0)
RATINGS = (0.0, 0.25, 0.5, 1.0)
POPULARITIES = (1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1)
RIDGES = (100.0, 300.0, 1000.0, 3000.0)
FLOORS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1)
SHARPNESS = (0.5, 0.75, 1.0, 1.5, 2.0)
SMALL = 1e-5
"""Gain in NDCG for which a weight is changed."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Held-out interactions, and a scorer of relations that did not count their users."""

    scorer: Scorer
    held_out: HeldOut


@dataclass(frozen=True)
class Grids:
    """Values that are tried, by what the data allows."""

    ordered: bool
    timed: bool
    rated: bool

    def of(self, events: EventWeights) -> Iterable[tuple[str, tuple[object, ...]]]:
        """List the fields of the events' weights with their values."""
        return (
            ("decay", DECAYS if self.ordered else (1.0,)),
            ("days", DAYS if self.timed else (None,)),
            ("rating", RATINGS if self.rated else (0.0,)),
        )


def tune(
    folds: Sequence[Fold],
    grids: Grids,
    rounds: int,
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> ScorerWeights:
    """Learn the weights of a scorer.

    Args:
        folds: At least one; the weights of their scorers are the same, and are where the search starts.
        grids: What the data allows.
        rounds: Passes over all weights.
        rng: Random number generator.
        report: Called with a line for each round.

    Returns:
        The weights with the highest NDCG that the search has found.
    """
    cases = _Cases(folds, rng)
    weights = folds[0].scorer.weights
    names = list(weights.relations)
    unit = {name: cases.unit(name, weights.relations[name].events) for name in names}
    weights = weights.model_copy(
        update={
            "relations": {
                name: RelationWeights(weight=0.0, events=weights.relations[name].events) for name in names
            }
        }
    )
    best = cases.ndcg(weights)
    for turn in range(rounds):
        before = best
        for name in names:
            for change in _changes(weights, name, unit[name], grids):
                weights, best = _better(cases, weights, best, change)
        for value in POPULARITIES:
            weights, best = _better(cases, weights, best, _popular(value))
        report(f"round {turn + 1}: NDCG@{DEPTH} {best:.4f} on {len(cases.target):,} held-out interactions")
        if best - before < SMALL:
            break
    return cases.calibrated(weights)


_Change = Callable[[ScorerWeights], ScorerWeights]


def _changes(weights: ScorerWeights, name: str, unit: float, grids: Grids) -> Iterable[_Change]:
    """All changes of one relation's weights: each is applied to the best weights so far."""

    def reweighted(value: float) -> _Change:
        return lambda w: _with(
            w, name, w.relations[name].model_copy(update={"weight": round(value * unit, 6)})
        )

    def redefined(field: str, value: object) -> _Change:
        def change(w: ScorerWeights) -> ScorerWeights:
            part = w.relations[name]
            return _with(
                w, name, part.model_copy(update={"events": part.events.model_copy(update={field: value})})
            )

        return change

    yield from (reweighted(value) for value in WEIGHTS)
    for field, values in grids.of(weights.relations[name].events):
        if len(values) > 1:
            yield from (redefined(field, value) for value in values)


def _popular(value: float) -> _Change:
    return lambda w: w.model_copy(update={"popularity": value})


def _with(weights: ScorerWeights, name: str, part: RelationWeights) -> ScorerWeights:
    return weights.model_copy(update={"relations": {**weights.relations, name: part}})


def _better(
    cases: _Cases, weights: ScorerWeights, best: float, change: _Change
) -> tuple[ScorerWeights, float]:
    trial = change(weights)
    if _effective(trial) == _effective(weights):
        return weights, best
    found = cases.ndcg(trial)
    return (trial, found) if found > best + SMALL else (weights, best)


def _effective(weights: ScorerWeights) -> ScorerWeights:
    """Leave out the relations that count nothing."""
    used = {name: part for name, part in weights.relations.items() if part.weight}
    return weights.model_copy(update={"relations": used})


def best_penalty(folds: Sequence[tuple[Interactions, HeldOut]], items: int) -> float:
    """Choose the penalty of the ridge regression by the held-out interactions' ranks by it alone.

    Args:
        folds: Interactions to learn from, and those that are held out of them.
        items: Number of items I.

    Returns:
        The best of :data:`RIDGES`.
    """
    found = dict.fromkeys(RIDGES, 0.0)
    for events, held_out in folds:
        weight = np.ones_like(held_out.windows.item_index, dtype=np.float32)
        histories = event_matrix(held_out.windows, weight, items)
        for penalty in RIDGES:
            scores = regression(events, items, penalty).scores(histories)
            scores[histories.nonzero()] = -np.inf
            found[penalty] += len(held_out) * mean_ndcg(scores, held_out.target)
    return max(RIDGES, key=lambda penalty: found[penalty])


def mean_ndcg(scores: Floats, target: Ints | Indices) -> float:
    """Mean NDCG of targets [B] among scores [B, C]; ties count half, and a place beyond :data:`DEPTH` nothing."""
    own = scores[np.arange(len(scores)), target][:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return float(np.where(rank < DEPTH, 1 / np.log2(rank + 2), 0.0).mean())


class _Cases:
    """Held-out interactions with the scores of the items that they are ranked among."""

    def __init__(self, folds: Sequence[Fold], rng: np.random.Generator) -> None:
        items = len(folds[0].scorer.popularity)
        most = max(CELLS // min(items, COLUMNS) // len(folds), 100)
        self.folds = [Fold(one.scorer, one.held_out.limited(most, rng)) for one in folds]
        targets = np.concatenate([one.held_out.target for one in self.folds])
        self.columns = np.arange(items)
        if items > COLUMNS:
            self.columns = np.unique(np.concatenate([rng.choice(items, COLUMNS, replace=False), targets]))
        self.target = np.searchsorted(self.columns, targets)
        self.popularity = [one.scorer.popularity[self.columns] for one in self.folds]
        self.rows = [len(one.held_out) for one in self.folds]
        self.hidden = np.concatenate([self._hidden(one.held_out.windows, items) for one in self.folds])
        self.hidden[np.arange(len(targets)), self.target] = 0.0  # an item may come again
        self._kept: dict[str, tuple[EventWeights, Floats]] = {}

    def _hidden(self, windows: Windows, items: int) -> Floats:
        seen = event_matrix(windows, np.ones_like(windows.item_index, dtype=np.float32), items)
        hidden: Floats = np.where(seen[:, self.columns].toarray() > 0, -np.inf, 0.0).astype(np.float32)
        return hidden

    def part(self, name: str, events: EventWeights) -> Floats:
        """Scores by one relation, [B, columns]; those of its last events' weights are kept."""
        known = self._kept.get(name)
        if known is None or known[0] != events:
            parts = [self._fold_part(fold, name, events) for fold in self.folds]
            known = (events, np.concatenate(parts))
            self._kept[name] = known
        return known[1]

    def _fold_part(self, fold: Fold, name: str, events: EventWeights) -> Floats:
        windows, scorer = fold.held_out.windows, fold.scorer
        items = len(scorer.popularity)
        matrix = event_matrix(windows, events.of(windows, scorer.deviations), items)
        step = max(CELLS // items, 1)
        rows = [slice(at, at + step) for at in range(0, len(windows), step)]
        parts = [scorer.relations[name].scores(matrix[at])[:, self.columns] for at in rows]
        return np.concatenate(parts)

    def unit(self, name: str, events: EventWeights) -> float:
        """Find the weight with which a relation's highest scores are 1 on average."""
        return float(1 / max(self.part(name, events).max(axis=1).mean(), 1e-6))

    def scores(self, weights: ScorerWeights) -> Floats:
        """Scores of the columns, [B, columns]; -inf for items that were seen."""
        total: Floats = self.hidden + np.float32(weights.popularity) * np.repeat(
            self.popularity, self.rows, axis=0
        )
        for name, part in weights.relations.items():
            if part.weight:
                total += np.float32(part.weight) * self.part(name, part.events)
        return total

    def ndcg(self, weights: ScorerWeights) -> float:
        """Mean NDCG of the held-out items."""
        return mean_ndcg(self.scores(weights), self.target)

    def calibrated(self, weights: ScorerWeights) -> ScorerWeights:
        """Choose floor and sharpness by the likelihood of the held-out items."""
        scores = self.scores(weights)[:2_000]
        rows, shown = np.arange(len(scores)), np.isfinite(scores)

        def loss(floor: float, sharpness: float) -> float:
            logits = np.full_like(scores, -np.inf)
            logits[shown] = sharpness * np.log(np.maximum(scores[shown], 0) + floor)
            top = logits.max(axis=1)
            return float(
                (
                    top
                    + np.log(np.exp(logits - top[:, None]).sum(axis=1))
                    - logits[rows, self.target[: len(rows)]]
                ).mean()
            )

        pairs = [(floor, sharpness) for floor in FLOORS for sharpness in SHARPNESS]
        floor, sharpness = min(pairs, key=lambda pair: loss(*pair))
        return weights.model_copy(update={"floor": floor, "sharpness": sharpness})
