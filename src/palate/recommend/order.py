"""Whether the order of interactions means anything: a sorted file has an order, too."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from palate.schema import Doubles, Indices, Interactions

COMMON = 0.7
"""Rank correlation with one common order of the items from which histories count as sorted by it.

In time order it is .2 to .4 (Beauty, Toys, LastFM, MovieLens 100k); in files that are sorted otherwise it is .8 to .9
(NCF's MovieLens 1M, anime ratings).
"""


def common_order(events: Interactions, items: int, rng: np.random.Generator) -> float:
    """Measure how far histories follow one order of the items.

    Args:
        events: Interactions of U users.
        items: Number of items I.
        rng: Random number generator.

    Returns:
        The rank correlation, over the interactions of half of the users, of the places in a history with the items'
        mean places in the histories of the other half; 0 for fewer than two such interactions.
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
    """Mean place of each item [I], drawn to the middle where it is seen once or twice."""
    count = np.bincount(item_index, minlength=items)
    mean: Doubles = (np.bincount(item_index, weights=place, minlength=items) + 0.5) / (count + 1)
    return mean
