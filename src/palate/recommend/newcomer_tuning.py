"""Tunes how new items are scored, on training items that are treated as new.

Similarity is computed from texts and categories alone, so nothing has to be refitted without these items: each
held-out interaction with one of them is ranked among all of them. Their scores are then calibrated against those of
known items (:mod:`palate.recommend.newcomer_placing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palate.recommend.event_weights import EventWeights, event_matrix
from palate.recommend.held_out import HeldOut, hold_out
from palate.recommend.newcomer_placing import place_newcomers
from palate.recommend.newcomers import NewcomerWeights, described_by, likeness
from palate.recommend.relations import VectorRelation
from palate.recommend.tuning import DEPTH, Fold, Grids, mean_ndcg
from palate.schema import Bools, Floats, Interactions, Ints

SHARE, MOST_ITEMS = 0.1, 1_000
"""Share of the items that are treated as new, and the maximum number of them."""
FEWEST, MOST = 20, 1_000
"""Minimum number of interactions with these items for tuning, and the maximum number used."""
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
LENGTHS = (0.0, 1.0)
POWERS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
ROUNDS = 2


@dataclass(frozen=True, eq=False)
class SimulatedNewItems:
    """Training items that are treated as new, and held-out interactions whose histories lack them."""

    items: Ints  # [N] ascending
    held_out: HeldOut


def simulate_new_items(
    events: Interactions,
    chosen: Bools,
    items: int,
    ordered: bool,
    history: int,
    rng: np.random.Generator,
) -> SimulatedNewItems | None:
    """Sample items to treat as new, and hold out one interaction with them per user.

    Args:
        events: Interactions of the training users.
        chosen: Mask of interactions that count for their item, [N].
        items: Number of items I.
        ordered: Hold out the last such interaction and keep what came before; otherwise a random one.
        history: Maximum number of newest interactions in a history.
        rng: Random number generator.

    Returns:
        The items and interactions; None if there are too few.
    """
    known = np.unique(events.item_index[chosen])
    new = np.sort(rng.permutation(known)[: min(int(SHARE * len(known)), MOST_ITEMS)])
    is_new = np.isin(np.arange(items), new)
    wanted = chosen & is_new[events.item_index]
    able = np.bincount(events.owner[wanted], minlength=len(events.lengths)) > 0
    able &= np.bincount(events.owner[~is_new[events.item_index]], minlength=len(able)) > 0
    users = np.sort(rng.permutation(np.flatnonzero(able))[:MOST])
    found = hold_out(events.of_users(users), ordered, history, rng, wanted[np.isin(events.owner, users)])
    windows = found.windows.where(~is_new[found.windows.item_index])
    kept = np.flatnonzero(windows.length > 0)
    if len(kept) < FEWEST or len(new) < 2:
        return None
    return SimulatedNewItems(new, HeldOut(windows[kept], found.target[kept]))


def tune_newcomers(
    taken: SimulatedNewItems,
    folds: Sequence[Fold],
    grids: Grids,
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> NewcomerWeights:
    """Tune the weights that score new items.

    Args:
        taken: Items that are treated as new, with held-out interactions.
        folds: Held-out interactions with any item, and tuned scorers.
        grids: Candidate values that the data allows.
        rng: Random number generator.
        report: Called with one line per stage.

    Returns:
        The tuned weights.
    """
    weights, found = _alike(taken, folds[0].scorer.deviations, described_by(folds[0].scorer.relations), grids)
    report(
        f"new items: NDCG@{DEPTH} {found:.4f} of {len(taken.held_out):,} interactions with {len(taken.items):,} items "
        "that are treated as new, among these"
    )
    return place_newcomers(weights, folds, rng, report)


def _alike(
    taken: SimulatedNewItems, deviations: Floats, described: Mapping[str, VectorRelation], grids: Grids
) -> tuple[NewcomerWeights, float]:
    """Tune similarity and event weights by coordinate ascent on NDCG among the new items."""
    windows, number = taken.held_out.windows, next(iter(described.values())).vectors.shape[0]
    target = np.searchsorted(taken.items, taken.held_out.target)
    known = np.unique(windows.item_index[windows.mask]).astype(np.int64)

    def sums(weights: NewcomerWeights) -> Floats:
        events = event_matrix(windows, weights.events.of(windows, deviations), number)
        total: Floats = np.asarray(events[:, known] @ likeness(described, weights, known, taken.items))
        return total

    best = NewcomerWeights()
    value = mean_ndcg(sums(best), target)
    for _ in range(ROUNDS):
        before = best
        for change in _changes(described, grids):
            trial = change(best)
            if trial != best and (found := mean_ndcg(sums(trial), target)) > value:
                best, value = trial, found
        if best == before:
            break
    level = float(sums(best).max(axis=1).mean())
    return best.model_copy(update={"level": max(level, 1e-6)}), value


def _changes(
    described: Mapping[str, VectorRelation], grids: Grids
) -> Iterable[Callable[[NewcomerWeights], NewcomerWeights]]:
    def of_weights(name: str, value: float) -> Callable[[NewcomerWeights], NewcomerWeights]:
        return lambda weights: weights.model_copy(update={name: value})

    def of_events(name: str, value: object) -> Callable[[NewcomerWeights], NewcomerWeights]:
        def change(weights: NewcomerWeights) -> NewcomerWeights:
            return weights.model_copy(update={"events": weights.events.model_copy(update={name: value})})

        return change

    yield from (of_weights("texts", value) for value in SHARES if len(described) > 1)
    yield from (of_weights("power", value) for value in POWERS)
    yield from (of_weights("length", value) for value in LENGTHS if "texts" in described)
    for name, values in grids.of(EventWeights()):
        yield from (of_events(name, value) for value in values if len(values) > 1)
