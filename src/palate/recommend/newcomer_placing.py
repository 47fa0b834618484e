"""Puts new items among the others: in the first places of lists as often as users choose them.

A new item is found worse than an item that others have chosen, as less is known of it. So lists that are to hold as
many held-out items as possible hold no new ones, and nobody ever chooses these. Instead, they get up to the share of
the first places that they have of the choices, as far as other items are found no worse by it than could be by chance.
The known items are taken for new ones in turn, a part of them at a time, to learn where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from palate.recommend.held_out import HeldOut
from palate.recommend.newcomers import NewcomerWeights, newcomer_scores
from palate.recommend.tuning import CELLS, Fold, seen_items
from palate.schema import Bools, Doubles, Floats, Ints

FIRST = 10
"""First places of a list, which are shared out and in which items are to be found."""
PARTS, MOST_ITEMS = 10, 1_000
"""Parts of the known items that are taken for new ones in turn, and the largest number of items of one."""
MOST = 1_000
"""Held-out interactions that are enough."""
SLOPES = (0.1, 0.2, 0.35, 0.5, 1.0, 2.0)
SHARES = (0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the first places that are tried, where 1 is that of the choices."""


@dataclass(frozen=True, eq=False)
class _Cases:
    """Held-out interactions, each with each part of the items taken for new ones, R in all.

    Scores of new items are those with a slope of 1 and no offset.
    """

    new: Floats  # [R, FIRST] the highest scores of new items, descending; -inf where there are fewer
    others: Floats  # [R, FIRST] likewise of the other items
    is_new: Bools  # [R] whether the held-out item is taken for a new one
    own: Floats  # [R] its score
    above: Ints  # [R] how many other items are scored above it; 0 where it is taken for a new one
    parts: int
    """Number of parts, which are as many rows of each interaction."""

    @classmethod
    def joined(cls, found: Sequence[_Cases]) -> _Cases:
        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(one, name) for one in found])

        return cls(
            column("new"), column("others"), column("is_new"), column("own"), column("above"), found[0].parts
        )

    @property
    def share(self) -> float:
        """Share of the choices that are of new items."""
        return float(self.is_new.mean())

    def offset(self, slope: float, share: float) -> float:
        """Find the offset with which new items have a share of all first places."""
        with np.errstate(invalid="ignore"):  # of no new item and no other one
            # The j-th best new item is among the first FIRST if it is above the (FIRST + 1 - j)-th best other one.
            least = np.nan_to_num(
                self.others[:, ::-1] - np.float32(slope) * self.new, nan=np.inf, posinf=np.inf
            )
        found = np.sort(least, axis=None)[int(share * least.size)]
        return float(np.clip(found, *_bounds(self.others)))

    def found(self, slope: float, offset: float) -> tuple[Doubles, Doubles]:
        """Compute the NDCG of each held-out item that is taken for new, [new R], and of each other one, [other R]."""
        new = np.float32(offset) + np.float32(slope) * self.new
        own = np.where(self.is_new, np.float32(offset) + np.float32(slope) * self.own, self.own)[:, None]
        rank = np.where(self.is_new, (self.others > own).sum(axis=1), self.above) + (new > own).sum(axis=1)
        tied = np.maximum((new == own).sum(axis=1) - self.is_new, 0)  # counted half
        gain = np.where(rank + tied / 2 < FIRST, 1 / np.log2(rank + tied / 2 + 2), 0.0)
        return gain[self.is_new], gain[~self.is_new]


def place_newcomers(
    weights: NewcomerWeights,
    folds: Sequence[Fold],
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> NewcomerWeights:
    """Choose slope and offset of new items' scores.

    Of the slopes and shares of the first places, those are taken with which new items are found best while the NDCG of
    the others is less than a standard error below what it is without new items.

    Args:
        weights: Likeness and weights of the events, which are learned already.
        folds: Held-out interactions with any item, and scorers with weights that are learned already.
        rng: Random number generator.
        report: Called with a line.

    Returns:
        The weights with slope and offset; as they are where no held-out item was taken for new.
    """
    cases = _cases(weights.model_copy(update={"offset": 0.0, "slope": 1.0}), folds, rng)
    if not cases.is_new.any():
        return weights
    _, without = cases.found(1.0, -np.inf)
    least = without.mean() - without.std() / np.sqrt(len(without) / cases.parts)  # each stands for every part
    best = _Placing(0.0, SLOPES[0], cases.offset(SLOPES[0], 0.0), 0.0, float(without.mean()))
    for part in SHARES:
        for slope in SLOPES:
            offset = cases.offset(slope, part * cases.share)
            new, others = (float(one.mean()) for one in cases.found(slope, offset))
            if others >= least and new > best.new:
                best = _Placing(part, slope, offset, new, others)
    report(
        f"new items: {best.part * cases.share:.1%} of the first {FIRST} places, and {cases.share:.1%} of the choices; "
        f"NDCG@{FIRST} {best.new:.4f} of new items, and {best.others:.4f} of others (without new ones "
        f"{without.mean():.4f})"
    )
    return weights.model_copy(update={"offset": round(best.offset, 4), "slope": best.slope})


@dataclass(frozen=True)
class _Placing:
    """Where new items are put, and the NDCG of these and of others."""

    part: float
    slope: float
    offset: float
    new: float
    others: float


def _bounds(scores: Floats) -> tuple[float, float]:
    finite = scores[np.isfinite(scores)]
    return float(finite.min(initial=0.0)) - 100, float(finite.max(initial=0.0)) + 100


def _cases(plain: NewcomerWeights, folds: Sequence[Fold], rng: np.random.Generator) -> _Cases:
    items = len(folds[0].scorer.popularity)
    known = rng.permutation(np.flatnonzero(np.any([one.scorer.popularity > 0 for one in folds], axis=0)))
    size = min(max(len(known) // PARTS, 1), MOST_ITEMS)
    parts = [np.sort(known[start : start + size]) for start in range(0, PARTS * size, size)]
    found: list[_Cases] = []
    for fold in folds:
        asked = fold.held_out.limited(max(min(MOST, CELLS // items) // len(folds), 100), rng)
        found += list(_fold_cases(plain, fold, asked, [one for one in parts if len(one)]))
    return _Cases.joined(found)


def _fold_cases(
    plain: NewcomerWeights, fold: Fold, asked: HeldOut, parts: Sequence[Ints]
) -> Iterator[_Cases]:
    """Score the items of held-out interactions, for each part of new items."""
    scorer, rows = fold.scorer, np.arange(len(asked))
    hidden = seen_items(asked, len(scorer.popularity))
    table = scorer.scores(asked.windows) + hidden
    target = table[rows, asked.target]
    for new in parts:
        windows = asked.windows.where(~np.isin(asked.windows.item_index, new))
        told = newcomer_scores(plain, scorer.relations, windows, scorer.deviations, new) + hidden[:, new]
        others = table.copy()
        others[:, new] = -np.inf
        is_new = np.isin(asked.target, new)
        place = np.minimum(np.searchsorted(new, asked.target), len(new) - 1)
        yield _Cases(
            _highest(told),
            _highest(others),
            is_new,
            np.where(is_new, told[rows, place], target),
            np.where(is_new, 0, (others > target[:, None]).sum(axis=1)),
            len(parts),
        )


def _highest(scores: Floats) -> Floats:
    """Return the highest scores of each row, descending, [B, FIRST]."""
    if scores.shape[1] < FIRST:
        scores = np.pad(scores, ((0, 0), (0, FIRST - scores.shape[1])), constant_values=-np.inf)
    found: Floats = -np.sort(-np.partition(scores, -FIRST, axis=1)[:, -FIRST:], axis=1)
    return found
