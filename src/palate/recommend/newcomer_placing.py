"""Calibrates the scores of new items against those of known items, for the top of lists.

Less is known of a new item, so weights that maximise NDCG alone would never list one, and nobody could choose it. New
items therefore get up to the share of the top places that they have of the choices, as long as the NDCG of known items
falls by less than one standard error. The trade-off is measured on known items that are treated as new, one part of
the catalogue at a time.
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
"""Top places of a list that are allocated, and the cutoff of NDCG."""
PARTS, MOST_ITEMS = 10, 1_000
"""Parts of the known items that are treated as new in turn, and the maximum number of items in one."""
MOST = 1_000
"""Maximum number of held-out interactions."""
SLOPES = (0.1, 0.2, 0.35, 0.5, 1.0, 2.0)
SHARES = (0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidate shares of the top places, relative to the share of choices."""


@dataclass(frozen=True, eq=False)
class _Cases:
    """Held-out interactions crossed with the parts of the items that are treated as new; R rows.

    Scores of new items are those with slope 1 and offset 0.
    """

    new: Floats  # [R, FIRST] highest scores of new items, descending; -inf where there are fewer
    others: Floats  # [R, FIRST] highest scores of known items, likewise
    is_new: Bools  # [R] whether the held-out item is treated as new
    own: Floats  # [R] score of the held-out item
    above: Ints  # [R] known items with a higher score; 0 where the held-out item is treated as new
    parts: int
    """Number of parts; each interaction has one row per part."""

    @classmethod
    def joined(cls, found: Sequence[_Cases]) -> _Cases:
        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(one, name) for one in found])

        return cls(
            column("new"), column("others"), column("is_new"), column("own"), column("above"), found[0].parts
        )

    @property
    def share(self) -> float:
        """Share of held-out items that are treated as new."""
        return float(self.is_new.mean())

    def offset(self, slope: float, share: float) -> float:
        """Compute the offset that gives new items a share of all top places."""
        with np.errstate(invalid="ignore"):  # inf - inf where both kinds of items are missing
            # The j-th best new item is in the top FIRST if it scores above the (FIRST + 1 - j)-th best known item.
            least = np.nan_to_num(
                self.others[:, ::-1] - np.float32(slope) * self.new, nan=np.inf, posinf=np.inf
            )
        found = np.sort(least, axis=None)[int(share * least.size)]
        return float(np.clip(found, *_bounds(self.others)))

    def found(self, slope: float, offset: float) -> tuple[Doubles, Doubles]:
        """Compute the NDCG of held-out items that are treated as new, [new R], and of the others, [other R]."""
        new = np.float32(offset) + np.float32(slope) * self.new
        own = np.where(self.is_new, np.float32(offset) + np.float32(slope) * self.own, self.own)[:, None]
        rank = np.where(self.is_new, (self.others > own).sum(axis=1), self.above) + (new > own).sum(axis=1)
        tied = np.maximum((new == own).sum(axis=1) - self.is_new, 0)  # ties count half
        gain = np.where(rank + tied / 2 < FIRST, 1 / np.log2(rank + tied / 2 + 2), 0.0)
        return gain[self.is_new], gain[~self.is_new]


def place_newcomers(
    weights: NewcomerWeights,
    folds: Sequence[Fold],
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> NewcomerWeights:
    """Choose the slope and offset of new items' scores.

    Takes the slope and share of top places with the highest NDCG of new items, among those where the NDCG of the other
    items is at most one standard error below what it is without new items.

    Args:
        weights: Weights with similarity and event weights already tuned.
        folds: Held-out interactions with any item, and tuned scorers.
        rng: Random number generator.
        report: Called with one line about the result.

    Returns:
        The weights with slope and offset; unchanged if no held-out item was treated as new.
    """
    cases = _cases(weights.model_copy(update={"offset": 0.0, "slope": 1.0}), folds, rng)
    if not cases.is_new.any():
        return weights
    _, without = cases.found(1.0, -np.inf)
    least = without.mean() - without.std() / np.sqrt(len(without) / cases.parts)  # rows repeat once per part
    best = _Placing(0.0, SLOPES[0], cases.offset(SLOPES[0], 0.0), 0.0, float(without.mean()))
    for part in SHARES:
        for slope in SLOPES:
            offset = cases.offset(slope, part * cases.share)
            new, others = (float(one.mean()) for one in cases.found(slope, offset))
            if others >= least and new > best.new:
                best = _Placing(part, slope, offset, new, others)
    report(
        f"new items: {best.part * cases.share:.1%} of the top {FIRST} places, {cases.share:.1%} of the choices; "
        f"NDCG@{FIRST} {best.new:.4f} of new items, and {best.others:.4f} of others (without new ones "
        f"{without.mean():.4f})"
    )
    return weights.model_copy(update={"offset": round(best.offset, 4), "slope": best.slope})


@dataclass(frozen=True)
class _Placing:
    """A candidate slope and offset, with the NDCG of new and of other items."""

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
    """Score held-out interactions once for each part of new items."""
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
    """Return the highest scores of each row, descending, [B, FIRST]; padded with -inf."""
    if scores.shape[1] < FIRST:
        scores = np.pad(scores, ((0, 0), (0, FIRST - scores.shape[1])), constant_values=-np.inf)
    found: Floats = -np.sort(-np.partition(scores, -FIRST, axis=1)[:, -FIRST:], axis=1)
    return found
