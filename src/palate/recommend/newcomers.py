"""Scores of new items (added after training) by their similarity to the items of a history.

A new item has no interactions because nobody could choose it yet, not because nobody wanted it. Its score therefore
has separate weights, tuned on training items that are treated as new (:mod:`palate.recommend.newcomer_tuning`).
Similarities are raised to a power, so that one near-duplicate counts more than many weakly similar items.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from palate.recommend.event_weights import EventWeights, event_matrix
from palate.recommend.relations import Relation, VectorRelation
from palate.schema import Floats, Ints, Windows
from palate.system.records import Frozen

LEAST = 1e-3
"""Share of ``level`` added to a sum of similarities before its logarithm."""


class NewcomerWeights(Frozen):
    """Weights that score new items; saved in ``recommender.json``."""

    texts: float = 0.5
    """Share of the text similarity between two items; the rest is the category similarity."""
    length: float = 0.0
    """Exponent of the kept share of text vectors' lengths: above 0, texts in common words count more."""
    power: float = 4.0
    """Exponent of the similarity."""
    events: EventWeights = EventWeights(decay=1.0)
    level: float = 1.0
    """Sum of similarities at which the score is about ``offset``."""
    offset: float = 0.0
    slope: float = 1.0
    """Change of the score per unit of the sum's logarithm."""

    def scores(self, sums: Floats) -> Floats:
        """Convert sums of similarities to scores on the scale of known items' scores."""
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
        weights: Weights that score new items.
        relations: Relations between all items; only those by texts and categories are used.
        windows: Histories.
        deviations: Each rating value in standard deviations from the mean, [R].
        items: Indices of the new items, [C].

    Returns:
        The scores, [B, C].
    """
    described = described_by(relations)
    number = next(iter(described.values())).vectors.shape[0]
    events = event_matrix(windows, weights.events.of(windows, deviations), number)
    known = np.unique(events.indices)
    return weights.scores(np.asarray(events[:, known] @ likeness(described, weights, known, items)))


def described_by(relations: Mapping[str, Relation]) -> dict[str, VectorRelation]:
    """Select the relations by texts and categories, which items without interactions have, too."""
    return {name: one for name, one in relations.items() if isinstance(one, VectorRelation)}


def likeness(
    described: Mapping[str, VectorRelation],
    weights: NewcomerWeights,
    items: Ints,
    others: Ints,
) -> Floats:
    """Compute content similarities between items, raised to the tuned power.

    Args:
        described: Relations by ``texts``, ``categories`` or both.
        weights: Weights of the two.
        items: Item indices, [C].
        others: Item indices, [N].

    Returns:
        Similarities from 0 to 1, [C, N].
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
