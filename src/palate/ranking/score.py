"""Scores a ranker on cases: ranks of the targets, and each user's best items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from palate.data.protocols import RankingCases
from palate.errors import PalateError
from palate.ranking.base import Ranker, bound_to
from palate.ranking.candidates import Candidates
from palate.ranking.metrics import LISTED, METRICS, Ranks, rank_metrics, target_ranks, top_items
from palate.schema import Floats, Indices

_SCORES_AT_ONCE = 1 << 21
"""Maximum number of scores per batch, which limits the users in it."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class RankedCases:
    """Ranks of B users' targets, and their best items."""

    ranks: Ranks  # [B, T]
    lists: Indices  # [B, LISTED]


@dataclass(frozen=True, eq=False)
class RankingTest:
    """Cases, with the candidates that their targets are ranked among."""

    cases: RankingCases
    candidates: Candidates
    items: int
    """Number of items I."""
    keep_seen: bool = False
    """Also rank items of the history."""

    def ranked(self, ranker: Ranker, name: str, progress: Progress = lambda done, total: None) -> RankedCases:
        """Rank the targets of all cases.

        Raises:
            PalateError: Scores are not finite, or of the wrong shape.
        """
        ranks, lists = [], []
        for rows in self._batches():
            scores, wanted = self._scores(ranker, name, rows)
            ranks.append(target_ranks(scores, wanted, self.cases.targets[rows] >= 0))
            lists.append(self._lists(scores, rows))
            progress(rows.stop, len(self.cases))
        return RankedCases(_joined(ranks), np.concatenate(lists))

    def ndcg(self, ranker: Ranker, name: str) -> float:
        """Return the mean NDCG@10; raises as :meth:`ranked` does."""
        ranks = [
            target_ranks(*self._scores(ranker, name, rows), self.cases.targets[rows] >= 0)
            for rows in self._batches()
        ]
        return float(rank_metrics(_joined(ranks))[:, METRICS.index("ndcg@10")].mean())

    def _batches(self) -> Iterator[slice]:
        width = self.items if self.candidates is None else self.candidates.shape[1]
        size = int(np.clip(_SCORES_AT_ONCE // max(width, 1), 1, 1024))
        for start in range(0, len(self.cases), size):
            yield slice(start, min(start + size, len(self.cases)))

    def _scores(self, ranker: Ranker, name: str, rows: slice) -> tuple[Floats, Floats]:
        """Score the ranked items, [B, I or T + C] with -inf for excluded ones, and the targets, [B, T]."""
        cases = self.cases[rows]
        windows = cases.windows.trimmed()
        ranker = bound_to(ranker, cases.user_index)
        if self.candidates is not None:
            listed = self._listed(rows)
            scores = _checked(ranker.scores(windows, listed), listed.shape, name)
            scores[listed < 0] = -np.inf
            return scores, scores[:, : cases.targets.shape[1]]
        scores = _checked(ranker.scores(windows), (len(cases), self.items), name)
        wanted = np.take_along_axis(scores, np.maximum(cases.targets, 0), axis=1)
        if not self.keep_seen:
            seen = np.nonzero(windows.mask)
            scores[seen[0], windows.item_index[seen]] = -np.inf
        return scores, wanted

    def _listed(self, rows: slice) -> Indices:
        """Concatenate targets and candidates, [B, T + C]."""
        assert self.candidates is not None
        return np.concatenate([self.cases.targets[rows], self.candidates[rows]], axis=1)

    def _lists(self, scores: Floats, rows: slice) -> Indices:
        """Return the best ranked items, [B, LISTED]; -1 is padding."""
        best = top_items(scores, LISTED)
        if self.candidates is not None:
            items = np.take_along_axis(self._listed(rows), np.maximum(best, 0), axis=1)
            best = np.where(best < 0, -1, items)
        return np.pad(best, ((0, 0), (0, LISTED - best.shape[1])), constant_values=-1)


def _joined(ranks: Sequence[Ranks]) -> Ranks:
    return Ranks(*(np.concatenate([getattr(one, name) for one in ranks]) for name in ("above", "tied")))


def _checked(scores: Floats, shape: tuple[int, ...], name: str) -> Floats:
    """Copy scores; raises :class:`PalateError` unless they are finite and of this shape."""
    found = np.array(scores)
    if found.shape != shape:
        raise PalateError(f"{name} returned scores of shape {found.shape}, expected {shape}")
    if not np.isfinite(found).all():
        raise PalateError(f"{name} returned a score that is not finite; expected finite numbers")
    return found
