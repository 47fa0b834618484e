"""Scores of items that came after the training, by what in a history they are described like.

Such an item is no item that nobody wanted: it could not be chosen yet. So its score has weights of its own, which are
learned on items of the training data that are taken for new ones (:mod:`palate.recommend.newcomer_tuning`). The
likeness of an item to one of the history counts by a power, so that one that is nearly the same counts more than many
that are a little alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from palate.recommend.event_weights import EventWeights, event_matrix
from palate.recommend.relations import Relation, VectorRelation
from palate.schema import Floats, Ints, Windows
from palate.system.records import Frozen

LEAST = 1e-3
"""Added to a sum of likenesses, as a share of the ``level``, before its logarithm."""


class NewcomerWeights(Frozen):
    """What training has learned of new items; readable as it is saved."""

    texts: float = 0.5
    """Share of the texts in the likeness of two items; the rest is that of categories."""
    length: float = 0.0
    """Power of how much of an item's text vector is kept: one that is said in common words counts more with it."""
    power: float = 4.0
    """Power of the likeness."""
    events: EventWeights = EventWeights(decay=1.0)
    level: float = 1.0
    """Sum of likenesses at which a new item's score is ``offset``."""
    offset: float = 0.0
    slope: float = 1.0
    """Change of the score by the logarithm of the sum."""

    def scores(self, sums: Floats) -> Floats:
        """Turn sums of likenesses to scores of the same scale as those of other items."""
        found: Floats = np.log(np.maximum(sums, 0) / self.level + LEAST).astype(np.float32)
        scores: Floats = np.float32(self.offset) + np.float32(self.slope) * found
        return scores


def newcomer_scores(
    weights: NewcomerWeights,
    relations: Mapping[str, Relation],
    windows: Windows,
    deviations: Floats,
    items: Ints,
) -> Floats:
    """Score new items for B windows.

    Args:
        weights: What was learned.
        relations: Relations between all items, of which those by texts and categories count.
        windows: Histories.
        deviations: Of each rating value, [R].
        items: The new items, [C].

    Returns:
        The scores, [B, C].
    """
    described = described_by(relations)
    number = next(iter(described.values())).vectors.shape[0]
    events = event_matrix(windows, weights.events.of(windows, deviations), number)
    known = np.unique(events.indices)
    return weights.scores(np.asarray(events[:, known] @ likeness(described, weights, known, items)))


def described_by(relations: Mapping[str, Relation]) -> dict[str, VectorRelation]:
    """Select the relations that items without interactions have, too: by texts and by categories."""
    return {name: one for name, one in relations.items() if isinstance(one, VectorRelation)}


def likeness(
    described: Mapping[str, VectorRelation],
    weights: NewcomerWeights,
    items: Ints,
    others: Ints,
) -> Floats:
    """Compare items with others by what is known of them, to the power that is learned.

    Args:
        described: Relations by ``texts`` and ``categories``, or one of these.
        weights: What counts how much.
        items: Items, [C].
        others: Other items, [N].

    Returns:
        From 0 to 1, [C, N].
    """
    shares = {"texts": weights.texts, "categories": 1 - weights.texts}
    if len(described) == 1:
        shares = dict.fromkeys(described, 1.0)
    total = np.zeros((len(items), len(others)), dtype=np.float32)
    for name, one in described.items():
        found = np.float32(shares[name]) * one.between(items, others)
        if one.kept is not None and weights.length:
            kept = one.kept**weights.length
            found *= kept[items][:, None] * kept[others]
        total += found
    alike: Floats = np.maximum(total, 0) ** np.float32(weights.power)
    return alike
