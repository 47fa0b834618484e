"""Tests whether the order of interactions carries information: sorted files have an order that does not."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from palate.schema import Doubles, Indices, Interactions

COMMON = 0.7
"""Rank correlation with one common item order from which histories count as sorted by it.

Histories in time order have 0.2 to 0.4 (Beauty, Toys, LastFM, MovieLens 100K); files sorted by something else have 0.8
to 0.9 (NCF's MovieLens 1M, anime ratings).
"""


def common_order(events: Interactions, items: int, rng: np.random.Generator) -> float:
    """Measure how closely histories follow one common order of the items.

    Args:
        events: Interactions of U users.
        items: Number of items I.
        rng: Random number generator.

    Returns:
        Rank correlation between positions in the histories of one half of the users and the items' mean positions in
        those of the other half; 0 for fewer than two interactions in either half.
    """
    user = events.owner
    place = (np.arange(len(events)) - events.offsets[user] + 0.5) / events.lengths[user]
    half = rng.random(len(events.lengths))[user] < 0.5
    long = events.lengths[user] > 1
    counted, asked = half & long, ~half & long
    if min(counted.sum(), asked.sum()) < 2:
        return 0.0
    mean = _mean_places(events.item_index[counted], place[counted], items)
    expected = mean[events.item_index[asked]]
    return float(spearmanr(expected, place[asked]).statistic) if np.ptp(expected) > 0 else 0.0


def _mean_places(item_index: Indices, place: Doubles, items: int) -> Doubles:
    """Compute the mean position of each item [I], shrunk to the middle where it has few interactions."""
    count = np.bincount(item_index, minlength=items)
    mean: Doubles = (np.bincount(item_index, weights=place, minlength=items) + 0.5) / (count + 1)
    return mean
