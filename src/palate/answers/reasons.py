"""Explanations of a score by ablation: the events of the history whose removal lowers the score most.

The effects are exact: candidates are removed from the state, and the score is computed again. Events are selected
greedily, so that together they lower the score most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import polars as pl

from palate.recommend.state import newest_windows
from palate.schema import Bools, Doubles, Ints

if TYPE_CHECKING:
    from palate.recommend.recommender import Recommender
    from palate.recommend.state import TasteState

MOST_ITEMS, MOST_CATEGORIES = 3, 2
LEFT_OUT = 300
"""Maximum number of candidate events, the newest ones, which bounds the cost of an explanation."""
AT_ONCE = 64
"""Batch size of scoring, in histories."""
SHORTLIST = 24
"""Number of candidates after the first greedy step, those with the largest influence."""
ScoredBy: TypeAlias = Literal["ratings", "next item"]


@dataclass(frozen=True)
class ItemReason:
    """An item of the history; its influence is the change of the score when removed after the items before it."""

    item_id: str
    title: str
    rating: float | None
    influence: float


@dataclass(frozen=True)
class CategoryReason:
    """A category of the item, its number of events in the history, and the change of the score without these."""

    name: str
    count: int
    influence: float


@dataclass(frozen=True)
class Explanation:
    """Explanation of an item's score: events and categories that raise it, or with ``against`` lower it."""

    item_id: str
    title: str
    by: ScoredBy
    """The score: the expected rating, or the score of the next item."""
    score: float
    against: bool
    items: tuple[ItemReason, ...]
    categories: tuple[CategoryReason, ...]
    without: float
    """The score without the named items."""


def explain(
    recommender: Recommender,
    state: TasteState,
    item_id: str,
    by: ScoredBy = "next item",
    against: bool = False,
) -> Explanation:
    """Explain an item's score by a user's history.

    Args:
        recommender: The recommender.
        state: The user's state.
        item_id: The item.
        by: The score to explain.
        against: Whether to find what lowers the score instead of what raises it.

    Returns:
        At most 3 items and 2 categories, each of which changes the score in that direction; empty if none does.

    Raises:
        DataError: The item is unknown, or ``by`` is "ratings" and the data has none.
    """
    index = recommender.index_of([item_id])
    score = scorer_without(recommender, state, index[0], by)
    sign = -1.0 if against else 1.0
    events = len(state.item_index)
    whole = float(score(np.zeros((1, events), dtype=np.bool_))[0])
    others = state.item_index != index[0]
    chosen = _best_set(lambda gone: sign * (whole - score(gone)), others)
    gone = np.zeros((max(len(chosen), 1), events), dtype=np.bool_)
    for row in range(len(chosen)):
        gone[row, chosen[: row + 1]] = True
    left = score(gone) if len(chosen) else np.array([whole])
    steps = np.diff(np.concatenate([[whole], left])) if len(chosen) else np.zeros(0)
    ids = recommender.item_ids
    title, *titles = recommender.titles(np.append(index, state.item_index[chosen]))
    values = recommender.facts.rating_values if recommender.ratings is not None else None
    return Explanation(
        item_id,
        title,
        by,
        whole,
        against,
        tuple(
            ItemReason(
                ids[state.item_index[at]],
                name,
                None if values is None else float(values[state.rating_index[at]]),
                float(-step),
            )
            for at, name, step in zip(chosen, titles, steps, strict=True)
        ),
        _categories(recommender, state, int(index[0]), whole, score, sign),
        float(left[-1]),
    )


def scorer_without(
    recommender: Recommender, state: TasteState, item: int, by: ScoredBy
) -> Callable[[Bools], Doubles]:
    """Return a function that computes the item's scores [N] without the events marked in a mask [N, P]."""
    if by == "ratings":
        return _rating_without(recommender, state, item)
    window = newest_windows([state])

    def score(gone: Bools) -> Doubles:
        found = []
        for start in range(0, len(gone), AT_ONCE):
            some = gone[start : start + AT_ONCE]
            kept = np.zeros((len(some), window.item_index.shape[1]), dtype=np.bool_)
            kept[:, : some.shape[1]] = ~some
            windows = window[np.zeros(len(some), dtype=np.int64)].where(kept)
            found.append(recommender.scorer.of_items(windows, np.array([item]))[:, 0])
        return np.concatenate(found).astype(np.float64)

    return score


def _rating_without(recommender: Recommender, state: TasteState, item: int) -> Callable[[Bools], Doubles]:
    model, values = recommender.rating_model, np.asarray(recommender.facts.rating_values)
    whole = state.ratings
    assert whole is not None, "a recommender with ratings keeps their sums"

    def score(gone: Bools) -> Doubles:
        row, event = np.nonzero(gone)
        removed = model.state(row, state.item_index[event], values[state.rating_index[event]], len(gone))
        repeated = type(whole)(*(np.repeat(part, len(gone), axis=0) for part in _parts(whole)))
        expected = model.expected(repeated.plus(removed, -1), np.full((len(gone), 1), item, dtype=np.int32))
        return np.asarray(expected.mean[:, 0], dtype=np.float64)

    return score


def _parts(state: object) -> list[np.ndarray]:
    return [getattr(state, one.name) for one in fields(state)]  # type: ignore[arg-type]


def _best_set(drop: Callable[[Bools], Doubles], allowed: Bools) -> list[int]:
    """Select events greedily, each the one that lowers the score most together with those selected before.

    Args:
        drop: Computes the decreases [N] of the score without the events marked in a mask [N, P].
        allowed: Mask [P] of the events that may be selected.
    """
    number = len(allowed)
    candidates = np.flatnonzero(allowed)[-LEFT_OUT:]
    chosen: list[int] = []
    reached = 0.0
    while len(chosen) < MOST_ITEMS and len(candidates):
        gone = np.zeros((len(candidates), number), dtype=np.bool_)
        gone[:, chosen] = True
        gone[np.arange(len(candidates)), candidates] = True
        drops = drop(gone)
        best = int(np.argmax(drops))
        if drops[best] <= reached + 1e-6 * max(abs(reached), 1e-3):
            break
        reached = float(drops[best])
        chosen.append(int(candidates[best]))
        order = np.argsort(-drops, kind="stable")[: SHORTLIST + 1]
        candidates = np.array([candidates[at] for at in sorted(order) if at != best], dtype=np.int64)
    return chosen


def _categories(
    recommender: Recommender,
    state: TasteState,
    item: int,
    whole: float,
    score: Callable[[Bools], Doubles],
    sign: float,
) -> tuple[CategoryReason, ...]:
    """Return the categories of the item whose events in the history change the score most in the given direction."""
    names = recommender.items["categories"][item].to_list()
    own = recommender.items["categories"].gather(state.item_index.astype(np.int64))
    rows = [np.asarray(own.list.contains(pl.lit(name)).to_numpy(), dtype=np.bool_) for name in names]
    named = [(name, row) for name, row in zip(names, rows, strict=True) if row.any()]
    if not named:
        return ()
    change = whole - score(np.stack([row for _, row in named]))
    found = [
        CategoryReason(name, int(row.sum()), float(moved))
        for (name, row), moved in zip(named, change, strict=True)
        if sign * moved > 0
    ]
    return tuple(sorted(found, key=lambda one: -sign * one.influence)[:MOST_CATEGORIES])


def alternatives(
    state: TasteState, chosen: Sequence[int], allowed: Bools, number: int, rng: np.random.Generator
) -> Bools | None:
    """Draw random sets of other events with the same ratings as the selected ones, as a control.

    Args:
        state: The user's state.
        chosen: Indices of the selected events.
        allowed: Mask [P] of the events that may be drawn.
        number: Number of sets.
        rng: Random number generator.

    Returns:
        Masks [number, P]; None if there are too few other events with these ratings.
    """
    drawn = np.zeros((number, len(state.item_index)), dtype=np.bool_)
    free = allowed.copy()
    free[list(chosen)] = False
    wanted: Ints = np.bincount(state.rating_index[list(chosen)], minlength=256)
    for value in np.flatnonzero(wanted):
        pool = np.flatnonzero(free & (state.rating_index == value))
        if len(pool) < wanted[value]:
            return None
        for row in range(number):
            drawn[row, rng.choice(pool, wanted[value], replace=False)] = True
    return drawn
