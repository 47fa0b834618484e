"""Item mean: smoothed item means plus a smoothed offset of the user."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from palate.config.section import KindSettings
from palate.ranking.ratings.linear import LinearRatings, LinearReference
from palate.schema import Doubles, Interactions


class ItemMeanSettings(KindSettings):
    """Settings of :class:`ItemMean`."""

    kind: str = "item-mean"
    shrinkage: float = Field(5.0, gt=0)
    """Pseudo-ratings of the overall mean added to each item's ratings."""
    offset_shrinkage: float = Field(5.0, gt=0)
    """Pseudo-deviations of 0 added to the user's deviations from the item means."""


class ItemMean(LinearReference):
    """Predicts an item's mean rating plus the user's mean deviation from item means."""

    def __init__(self, settings: ItemMeanSettings) -> None:
        super().__init__()
        self._settings = settings

    def learn(self, events: Interactions, values: Doubles, items: int) -> LinearRatings:
        """Compute the smoothed item means."""
        base = smoothed_means(events, values, items, self._settings.shrinkage)
        return LinearRatings(base, np.ones((items, 1)), np.array([self._settings.offset_shrinkage]))


def smoothed_means(events: Interactions, values: Doubles, items: int, shrinkage: float) -> Doubles:
    """Average the ratings [N] of I items, with ``shrinkage`` pseudo-ratings of the overall mean each, [I]."""
    mean = float(values.mean())
    count = np.bincount(events.item_index, minlength=items)
    total = np.bincount(events.item_index, values - mean, minlength=items)
    means: Doubles = mean + total / (count + shrinkage)
    return means
