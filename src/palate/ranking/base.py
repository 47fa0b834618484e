"""Interface of rankers: histories to scores of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from palate.recommend.scorer import chosen_windows
from palate.schema import Floats, Indices, Ints

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import Windows


RankerOrPredictor = TypeVar("RankerOrPredictor")


class Ranker(Protocol):
    """Scores items for users by their histories alone; it never sees what comes after them.

    A ranker that cannot learn from a dataset raises :class:`palate.errors.DataError` in :meth:`fit`, with what the
    dataset lacks. Where events have types, a ranker is shown only those that chose their item, unless it has an
    attribute ``reads_event_types`` that is true. One that knows users by their ids has a method ``of_users``, which
    takes the places of B users in the data, and returns the ranker that :meth:`scores` is asked of for them.
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


class ChoicesOnly:
    """A ranker that is shown only what was chosen, where events have types: no skips, to learn from or to read.

    Args:
        ranker: The ranker.
        weights: What events of each rating value weigh, :attr:`palate.data.dataset.Dataset.event_weights`.
    """

    def __init__(self, ranker: Ranker, weights: tuple[float, ...]) -> None:
        self._ranker, self._weights = ranker, weights

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Fit the ranker to the interactions that chose an item."""
        events = dataset.interactions
        chosen = replace(dataset, interactions=events.where(dataset.chosen(events)))
        self._ranker.fit(chosen, lambda ranker: dev_ndcg(ChoicesOnly(ranker, self._weights)))

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score by what was chosen."""
        return self._ranker.scores(chosen_windows(windows, self._weights), candidates)


def bound_to(ranker: RankerOrPredictor, user_index: Ints) -> RankerOrPredictor:
    """Return the ranker or rating predictor for these users [B]: itself, unless it knows users by their ids."""
    of_users: Callable[[Ints], RankerOrPredictor] | None = getattr(ranker, "of_users", None)
    return ranker if of_users is None else of_users(user_index)


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
