"""Interface of rankers, which score items from histories."""

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
    """Scores items for users from their histories alone; it never sees what comes after them.

    :meth:`fit` raises :class:`palate.errors.DataError`, with what is missing, if the ranker cannot learn from a
    dataset. Where events have types, a ranker is shown only events that chose their item, unless its attribute
    ``reads_event_types`` is true. A ranker with parameters per user has a method ``of_users``: it takes the dataset
    indices of B users and returns the ranker whose :meth:`scores` is called for them.
    """

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Fit to training interactions.

        Args:
            dataset: Dataset that holds all items and only the training interactions.
            dev_ndcg: Returns a ranker's NDCG@10 on the dev cases, for early stopping; higher is better.
        """

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score items for B users.

        Args:
            windows: Histories, oldest interaction first.
            candidates: Item indices to score, [B, C]; -1 is padding. All items if None.

        Returns:
            Finite scores, higher is better: [B, I], or [B, C] of the candidates with any value at padding.
        """
        ...


class ChoicesOnly:
    """Wraps a ranker so that it sees only events that chose their item, in training and in histories: no skips.

    Args:
        ranker: Ranker to wrap.
        weights: Weight of events by rating value, from :attr:`palate.data.dataset.Dataset.event_weights`.
    """

    def __init__(self, ranker: Ranker, weights: tuple[float, ...]) -> None:
        self._ranker, self._weights = ranker, weights

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Fit the ranker to the interactions that chose their item."""
        events = dataset.interactions
        chosen = replace(dataset, interactions=events.where(dataset.chosen(events)))
        self._ranker.fit(chosen, lambda ranker: dev_ndcg(ChoicesOnly(ranker, self._weights)))

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score from the events that chose their item."""
        return self._ranker.scores(chosen_windows(windows, self._weights), candidates)


def bound_to(ranker: RankerOrPredictor, user_index: Ints) -> RankerOrPredictor:
    """Return the ranker or rating predictor for these users [B]: itself, unless it has parameters per user."""
    of_users: Callable[[Ints], RankerOrPredictor] | None = getattr(ranker, "of_users", None)
    return ranker if of_users is None else of_users(user_index)


DevNdcg: TypeAlias = Callable[[Ranker], float]


def picked(scores: Floats, candidates: Indices | None) -> Floats:
    """Select the candidates' scores from all items' scores.

    Args:
        scores: Scores of all items, [B, I].
        candidates: Item indices, [B, C]; -1 is padding. All items if None.

    Returns:
        The candidates' scores, [B, C], or all scores, [B, I].
    """
    return scores if candidates is None else np.take_along_axis(scores, np.maximum(candidates, 0), axis=1)
