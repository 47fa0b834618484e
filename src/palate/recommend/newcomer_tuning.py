"""Learns how new items are scored, on items of the training data that are taken for new ones.

Likeness comes from texts and categories alone, so that nothing has to be fitted without these items: a user's
interaction with one of them is predicted from the others, among all of them. Then they are put among the other items
(:mod:`palate.recommend.newcomer_placing`).
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
"""Share of the items that are taken for new ones, and the largest number of them."""
FEWEST, MOST = 20, 1_000
"""Interactions with these below which nothing is learned, and how many are enough."""
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
LENGTHS = (0.0, 1.0)
POWERS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
ROUNDS = 2


@dataclass(frozen=True, eq=False)
class TakenForNew:
    """Interactions of users with items that are taken for new ones, and what came before without such items."""

    items: Ints  # [N] ascending
    held_out: HeldOut


def take_for_new(
    events: Interactions,
    chosen: Bools,
    items: int,
    ordered: bool,
    history: int,
    rng: np.random.Generator,
) -> TakenForNew | None:
    """Draw items that are taken for new ones, and hold an interaction with one of them out of each history.

    Args:
        events: Interactions of the training users.
        chosen: Which of them chose their item, [N].
        items: Number of items I.
        ordered: Whether the last such interaction is held out, from what came before; a random one if not.
        history: Newest interactions that a history keeps.
        rng: Random number generator.

    Returns:
        The interactions; None where they are too few.
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
    return TakenForNew(new, HeldOut(windows[kept], found.target[kept]))


def tune_newcomers(
    taken: TakenForNew,
    folds: Sequence[Fold],
    grids: Grids,
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> NewcomerWeights:
    """Learn how new items are scored.

    Args:
        taken: Interactions with items that are taken for new ones.
        folds: Held-out interactions with any item, and scorers with weights that are learned already.
        grids: What the data allows.
        rng: Random number generator.
        report: Called with a line.

    Returns:
        The weights.
    """
    weights, found = _alike(taken, folds[0].scorer.deviations, described_by(folds[0].scorer.relations), grids)
    report(
        f"new items: NDCG@{DEPTH} {found:.4f} of {len(taken.held_out):,} interactions with {len(taken.items):,} items "
        "that are taken for new ones, among these"
    )
    return place_newcomers(weights, folds, rng, report)


def _alike(
    taken: TakenForNew, deviations: Floats, described: Mapping[str, VectorRelation], grids: Grids
) -> tuple[NewcomerWeights, float]:
    """Choose what likeness counts, and the events, by ranks among the new items: coordinate ascent."""
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
