"""Scores rankers on cases: ranks of the targets, and the best items of each user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from palate.errors import PalateError
from palate.ranking.base import Ranker
from palate.ranking.candidates import Candidates
from palate.ranking.metrics import LISTED, METRICS, Ranks, rank_metrics, target_ranks, top_items
from palate.ranking.protocols import RankingCases
from palate.schema import Floats, Indices

_SCORES_AT_ONCE = 1 << 21
"""Scores in memory: a batch has as many users as fit."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class RankedCases:
    """Ranks of B users' targets, and their best items."""

    ranks: Ranks  # [B, T]
    lists: Indices  # [B, LISTED]


@dataclass(frozen=True, eq=False)
class RankingTest:
    """Cases with the items that are ranked."""

    cases: RankingCases
    candidates: Candidates
    items: int
    """Number of items, I."""
    keep_seen: bool = False
    """Rank items of the history, too."""

    def ranked(self, ranker: Ranker, name: str, progress: Progress = lambda done, total: None) -> RankedCases:
        """Rank the targets of all cases.

        Raises:
            PalateError: Scores are not finite or of the wrong shape.
        """
        batches = []
        for rows in self._batches():
            batches.append(self._batch(ranker, name, rows))
            progress(rows.stop, len(self.cases))
        above, tied = (
            np.concatenate([getattr(ranks, name) for ranks, _ in batches]) for name in ("above", "tied")
        )
        return RankedCases(Ranks(above, tied), np.concatenate([lists for _, lists in batches]))

    def ndcg(self, ranker: Ranker, name: str) -> float:
        """Return the mean NDCG@10."""
        return float(rank_metrics(self.ranked(ranker, name).ranks)[:, METRICS.index("ndcg@10")].mean())

    def _batches(self) -> Iterator[slice]:
        width = self.items if self.candidates is None else self.candidates.shape[1]
        size = int(np.clip(_SCORES_AT_ONCE // max(width, 1), 1, 1024))
        for start in range(0, len(self.cases), size):
            yield slice(start, min(start + size, len(self.cases)))

    def _batch(self, ranker: Ranker, name: str, rows: slice) -> tuple[Ranks, Indices]:
        cases = self.cases[rows]
        windows = cases.windows.trimmed()
        if self.candidates is None:
            scores = _checked(ranker.scores(windows), (len(cases), self.items), name)
            wanted = np.take_along_axis(scores, np.maximum(cases.targets, 0), axis=1)
            if not self.keep_seen:
                seen = np.nonzero(windows.mask)
                scores[seen[0], windows.item_index[seen]] = -np.inf
            ranks, lists = target_ranks(scores, wanted, cases.targets >= 0), top_items(scores, LISTED)
        else:
            listed = np.concatenate([cases.targets, self.candidates[rows]], axis=1)
            scores = _checked(ranker.scores(windows, listed), listed.shape, name)
            scores[listed < 0] = -np.inf
            ranks = target_ranks(scores, scores[:, : cases.targets.shape[1]], cases.targets >= 0)
            best = top_items(scores, LISTED)
            lists = np.where(best < 0, -1, np.take_along_axis(listed, np.maximum(best, 0), axis=1))
        if lists.shape[1] < LISTED:
            lists = np.pad(lists, ((0, 0), (0, LISTED - lists.shape[1])), constant_values=-1)
        return ranks, lists


def _checked(scores: Floats, shape: tuple[int, ...], name: str) -> Floats:
    """Copy scores; raises :class:`PalateError` unless they are finite and of this shape."""
    found = np.array(scores)
    if found.shape != shape:
        raise PalateError(f"{name} gave scores of shape {found.shape}, expected {shape}")
    if not np.isfinite(found).all():
        raise PalateError(f"{name} gave a score that is not finite; expected finite numbers")
    return found
