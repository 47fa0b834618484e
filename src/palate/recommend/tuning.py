"""Tunes the scorer's weights by coordinate ascent over fixed grids, on the NDCG of held-out items.

The relations are fitted without the held-out users, so that the weights hold for new users. Where users are few, all
are held out in turn, by folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from palate.recommend.event_weights import EventWeights, event_matrix
from palate.recommend.held_out import HeldOut
from palate.recommend.relations import regression
from palate.recommend.scorer import (
    RelationWeights,
    Scorer,
    ScorerWeights,
    compressed,
)
from palate.schema import Floats, Indices, Interactions, Ints

DEPTH = 50
"""Cutoff of NDCG."""
COLUMNS = 20_000
"""Maximum number of items that held-out ones are ranked among; a sample of larger catalogues."""
CELLS = 16_000_000
"""Maximum number of scores per relation in memory."""
WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
DECAYS = (1.0, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2)
DAYS = (None, 1000.0, 200.0, 50.0, 10.0)
RATINGS = (0.0, 0.25, 0.5, 1.0)
POPULARITIES = (1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1)
RIDGES = (100.0, 300.0, 1000.0, 3000.0)
NETWORKS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
TYPES = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
AGAINST = (0.0, -0.1, -0.3, -1.0)
FLOORS = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SHARPNESS = (0.5, 0.75, 1.0, 1.5, 2.0)
SMALL = 1e-5
"""Minimum gain in NDCG for which a weight is changed."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Held-out interactions, and a scorer whose relations were fitted without their users."""

    scorer: Scorer
    held_out: HeldOut


@dataclass(frozen=True)
class Grids:
    """Candidate values of event weights, by what the data allows: order, times, ratings."""

    ordered: bool
    timed: bool
    rated: bool

    def of(self, events: EventWeights) -> Iterable[tuple[str, tuple[object, ...]]]:
        """Return the fields of event weights with their candidate values."""
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
    """Tune the weights of a scorer.

    Args:
        folds: At least one; their scorers share the weights from which the search starts.
        grids: Candidate values that the data allows.
        rounds: Maximum number of passes over all weights.
        rng: Random number generator.
        report: Called with one line per round.

    Returns:
        The weights with the highest NDCG found.
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
                weights, best = _better(cases, weights, best, change, name)
        for field, values in cases.common:
            for value in values:
                weights, best = _better(cases, weights, best, _redefined(field, value), field)
        report(f"round {turn + 1}: NDCG@{DEPTH} {best:.4f} on {len(cases.target):,} held-out interactions")
        if best - before < SMALL:
            break
    return cases.calibrated(weights)


_Change = Callable[[ScorerWeights], ScorerWeights]


def _changes(weights: ScorerWeights, name: str, unit: float, grids: Grids) -> Iterable[_Change]:
    """Yield all changes of one relation's weights; each is applied to the best weights so far."""

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
    for place, weight in enumerate(weights.types):
        yield from (_retyped(name, place, value) for value in (TYPES if weight > 0 else AGAINST))


def _retyped(name: str, place: int, value: float) -> _Change:
    """Change the event weight of one rating value in a relation."""

    def change(w: ScorerWeights) -> ScorerWeights:
        part = w.relations[name]
        values = tuple(value if at == place else one for at, one in enumerate(part.events.values))
        return _with(
            w, name, part.model_copy(update={"events": part.events.model_copy(update={"values": values})})
        )

    return change


def _redefined(field: str, value: float) -> _Change:
    return lambda w: w.model_copy(update={field: value})


def _with(weights: ScorerWeights, name: str, part: RelationWeights) -> ScorerWeights:
    return weights.model_copy(update={"relations": {**weights.relations, name: part}})


def _better(
    cases: _Cases, weights: ScorerWeights, best: float, change: _Change, varied: str
) -> tuple[ScorerWeights, float]:
    trial = change(weights)
    if _effective(trial) == _effective(weights):
        return weights, best
    found = cases.ndcg(trial, varied)
    return (trial, found) if found > best + SMALL else (weights, best)


def _effective(weights: ScorerWeights) -> ScorerWeights:
    """Drop relations of weight 0, for comparison."""
    used = {name: part for name, part in weights.relations.items() if part.weight}
    return weights.model_copy(update={"relations": used})


def best_penalty(folds: Sequence[tuple[Interactions, HeldOut]], items: int) -> float:
    """Choose the penalty of the ridge regression by the NDCG of held-out items under it alone.

    Args:
        folds: Training interactions, and those held out of them.
        items: Number of items I.

    Returns:
        The best of :data:`RIDGES`.
    """
    found = dict.fromkeys(RIDGES, 0.0)
    for events, held_out in folds:
        weight = np.ones_like(held_out.windows.item_index, dtype=np.float32)
        histories = event_matrix(held_out.windows, weight, items)
        hidden = seen_items(held_out, items)
        for penalty in RIDGES:
            scores = regression(events, items, penalty).scores(histories) + hidden
            found[penalty] += len(held_out) * mean_ndcg(scores, held_out.target)
    return max(RIDGES, key=lambda penalty: found[penalty])


def mean_ndcg(scores: Floats, target: Ints | Indices, depth: int = DEPTH) -> float:
    """Compute mean NDCG of targets [B] among scores [B, C]; ties count half, ranks beyond ``depth`` nothing."""
    own = scores[np.arange(len(scores)), target][:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return float(np.where(rank < depth, 1 / np.log2(rank + 2), 0.0).mean())


def seen_items(held_out: HeldOut, items: int, columns: Ints | None = None) -> Floats:
    """Build a mask to add to scores: -inf for items of the history, 0 for others and for the held-out item.

    Args:
        held_out: B held-out interactions; the held-out item may repeat one of the history.
        items: Number of items I.
        columns: Item indices, ascending, [C]; all if None.

    Returns:
        The mask, [B, C] or [B, I].
    """
    windows = held_out.windows
    seen = event_matrix(windows, np.ones_like(windows.item_index, dtype=np.float32), items)
    columns = np.arange(items) if columns is None else columns
    hidden: Floats = np.where(seen[:, columns].toarray() > 0, -np.inf, 0.0).astype(np.float32)
    hidden[np.arange(len(held_out)), np.searchsorted(columns, held_out.target)] = 0.0
    return hidden


class _Cases:
    """Held-out interactions, with cached scores of the items that they are ranked among."""

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
        self.hidden = np.concatenate([seen_items(one.held_out, items, self.columns) for one in self.folds])
        self._kept: dict[str, tuple[EventWeights, Floats]] = {}
        self._fixed: tuple[ScorerWeights, Floats] | None = None
        self.logits = self._logits()

    @property
    def common(self) -> tuple[tuple[str, tuple[float, ...]], ...]:
        """Fields of the weights that belong to no relation, with their candidate values."""
        popularity = (("popularity", POPULARITIES),)
        return popularity if self.logits is None else (*popularity, ("network", NETWORKS), ("floor", FLOORS))

    def _logits(self) -> Floats | None:
        """Compute the columns' logits by each fold's network, [B, columns]; None without networks."""
        parts = [
            network.logits(one.scorer.chosen(one.held_out.windows), one.scorer.deviations, self.columns)
            for one in self.folds
            if (network := one.scorer.network) is not None
        ]
        return np.concatenate(parts) if parts else None

    def part(self, name: str, events: EventWeights) -> Floats:
        """Compute scores by one relation, [B, columns]; the last event weights' scores are cached."""
        known = self._kept.get(name)
        if known is None or known[0] != events:
            parts = [self._fold_part(fold, name, events) for fold in self.folds]
            known = (events, np.concatenate(parts))
            self._kept[name] = known
        return known[1]

    def _fold_part(self, fold: Fold, name: str, events: EventWeights) -> Floats:
        windows, scorer = fold.held_out.windows, fold.scorer
        matrix = event_matrix(windows, events.of(windows, scorer.deviations), len(scorer.popularity))
        return scorer.relations[name].of_items(matrix, self.columns)

    def unit(self, name: str, events: EventWeights) -> float:
        """Return the weight at which a relation's highest scores are 1 on average."""
        return float(1 / max(self.part(name, events).max(axis=1).mean(), 1e-6))

    def scores(self, weights: ScorerWeights, varied: str = "") -> Floats:
        """Compute scores of the columns, [B, columns]; -inf for seen items.

        The sum over all relations but ``varied`` is cached for the next call.
        """
        others = {name: part for name, part in weights.relations.items() if name != varied and part.weight}
        fixed = weights.model_copy(update={"relations": others, "network": 0.0, "floor": 1.0})
        if self._fixed is None or self._fixed[0] != fixed:
            self._fixed = fixed, self._sum(fixed)
        total = self._fixed[1]
        part = weights.relations.get(varied)
        if part is not None and part.weight:
            total = total + np.float32(part.weight) * self.part(varied, part.events)
        scores: Floats = total if self.logits is None else compressed(total, weights.floor)
        if self.logits is not None and weights.network:
            scores += np.float32(weights.network) * self.logits
        scores = scores + self.hidden
        return scores

    def _sum(self, weights: ScorerWeights) -> Floats:
        popularity = np.repeat(self.popularity, self.rows, axis=0)
        total: Floats = np.float32(weights.popularity) * popularity
        for name, part in weights.relations.items():
            total += np.float32(part.weight) * self.part(name, part.events)
        return total

    def ndcg(self, weights: ScorerWeights, varied: str = "") -> float:
        """Compute the mean NDCG of the held-out items."""
        return mean_ndcg(self.scores(weights, varied), self.target)

    def calibrated(self, weights: ScorerWeights) -> ScorerWeights:
        """Choose the sharpness, and without a network the floor, by the likelihood of the held-out items."""
        floors = FLOORS if self.logits is None or not weights.network else (weights.floor,)
        best, chosen = np.inf, weights
        for floor in floors:
            scores = self.scores(weights.model_copy(update={"floor": floor}))[:2_000]
            if self.logits is None:
                scores = compressed(scores, floor)
            for sharpness in SHARPNESS:
                logits = np.float32(sharpness) * scores
                own = logits[np.arange(len(logits)), self.target[: len(logits)]]
                loss = float((logsumexp(logits, axis=1) - own).mean())
                if loss < best:
                    best, chosen = (
                        loss,
                        weights.model_copy(update={"floor": floor, "sharpness": sharpness}),
                    )
        return chosen
