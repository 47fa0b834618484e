"""Interface of rankers: histories to scores of items."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from palate.schema import Floats, Indices

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import Windows


class Ranker(Protocol):
    """Scores items for users by their histories alone; it never sees what comes after them.

    A ranker that cannot learn from a dataset raises :class:`palate.errors.DataError` in :meth:`fit`, with what the
    dataset lacks.
    """

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Learn from training interactions.

        Args:
            dataset: Items, and only the interactions that may be learned from.
            dev_ndcg: Scores a ranker on the dev cases, by NDCG@10; higher is better. For early stopping.
        """

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score items for B users.

        Args:
            windows: Their histories, oldest first.
            candidates: Items to score, [B, C]; -1 where a user has fewer. All items if None.

        Returns:
            Finite scores, the highest first: of all items [B, I], or of the candidates [B, C], whatever at -1.
        """
        ...


DevNdcg: TypeAlias = Callable[[Ranker], float]


def picked(scores: Floats, candidates: Indices | None) -> Floats:
    """Select the scores of candidates from those of all items.

    Args:
        scores: Scores of all items, [B, I].
        candidates: Items of each user, [B, C]; -1 where a user has fewer. All items if None.

    Returns:
        Their scores, [B, C], or all scores, [B, I].
    """
    return scores if candidates is None else np.take_along_axis(scores, np.maximum(candidates, 0), axis=1)
