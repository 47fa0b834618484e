"""What is known of an item's factors and offset from its categories, texts and year alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, sparse

from palate.schema import Doubles, Floats, Ints

if TYPE_CHECKING:
    from palate.recommend.ratings import RatingModel

LEAST = 1e-6
CONTENT_PENALTY = 10.0
"""Penalty of the squared weights of features."""
MOST_FEATURES = 1_000
"""Features that are learned from: those of the most items."""
FOLDS = 5
"""Parts of the items that are predicted from the others, to calibrate what is said of new ones."""


@dataclass(frozen=True, eq=False)
class ContentRegression:
    """Weighted ridge regression of what is known of items on their features, of which the first is a constant."""

    features: sparse.csr_matrix  # [I, D]
    weight: Doubles  # [I] what each item counts, on average 1 of those that count
    inputs: sparse.csr_matrix  # [I, D'] features that are learned from
    factor: tuple[Doubles, bool]  # of the inputs' penalised second moments
    used: Ints  # [D'] which features these are

    @classmethod
    def of(cls, features: sparse.csr_matrix, weight: Doubles) -> ContentRegression:
        """Prepare the regression.

        Args:
            features: Features of the items, [I, D].
            weight: What each item counts, [I]; nothing is learned from one with 0.

        Returns:
            The regression, for any values of these items.
        """
        known = weight > 0
        scaled = weight / weight[known].mean()
        number = features[np.flatnonzero(known)].getnnz(axis=0)
        used = np.sort(np.argsort(-number, kind="stable")[:MOST_FEATURES])
        inputs = features[:, used]
        penalty = np.full(len(used), CONTENT_PENALTY)
        penalty[used == 0] = LEAST
        gram = (inputs.T @ sparse.diags(scaled) @ inputs).toarray() + np.diag(penalty)
        return cls(features, scaled, inputs, linalg.cho_factor(gram), used)

    def weights(self, item: Doubles | Floats) -> Doubles:
        """Regress values of the items [I, W] on the features, [D, W]."""
        found = np.zeros((self.features.shape[1], item.shape[1]))
        found[self.used] = linalg.cho_solve(self.factor, self.inputs.T @ (self.weight[:, None] * item))
        return found


def mean_square_distance(
    item: Doubles | Floats, own: Doubles | Floats, expected: Doubles, weight: Doubles | Ints
) -> Doubles:
    """Average how far items are from what is expected of them.

    Args:
        item: Values of the items, [I, W].
        own: Their variances, [I, W].
        expected: What is expected of the items, [I, W].
        weight: What each item counts, [I].

    Returns:
        The mean squared distances, [W].
    """
    found: Doubles = np.maximum(np.average((item - expected) ** 2 + own, axis=0, weights=weight), LEAST)
    return found


def new_item_prior(
    features: sparse.csr_matrix, counts: Ints, items: Floats, variance: Floats
) -> tuple[Floats, Floats]:
    """Learn what features say of an item that nobody has rated yet, and will be rated as others are.

    Ratings are mostly of few items, which are liked more than others. So the weights of the features are learned with
    the square roots of the items' numbers of ratings, and the level with these numbers.

    Args:
        features: Features of the items, [I, D].
        counts: Number of ratings of each item, [I]; some are above 0.
        items: Factors and offsets by M models, [M, I, K + 1].
        variance: Their variances, [M, I, K + 1].

    Returns:
        The weights [M, D, K + 1], and the variances around what they say, [M, K + 1].
    """
    slopes = ContentRegression.of(features, np.sqrt(counts))
    weights, variances = [], []
    for item, own in zip(items, variance, strict=True):
        found = slopes.weights(item)
        found[0] += np.average(item - features @ found, axis=0, weights=counts)
        weights.append(found)
        variances.append(mean_square_distance(item, own, features @ found, counts))
    return np.stack(weights).astype(np.float32), np.stack(variances).astype(np.float32)


def as_new_items(
    model: RatingModel, features: sparse.csr_matrix, counts: Ints, rng: np.random.Generator
) -> RatingModel | None:
    """Replace all items by what is said of them if they are new: of each part of the items, by the others.

    Args:
        model: The models.
        features: Features of the items, [I, D].
        counts: Number of ratings that they were learned from, [I].
        rng: Random number generator, for the parts.

    Returns:
        The models with other items; None if there are too few.
    """
    if (counts > 0).sum() < 2 * FOLDS:
        return None
    places = np.empty(len(counts), dtype=np.int64)
    places[np.argsort(counts == 0, kind="stable")] = (
        np.arange(len(counts)) % FOLDS
    )  # some of each part are rated
    rated = np.flatnonzero(counts > 0)
    places[rated] = rng.permutation(places[rated])
    found = model
    for part in range(FOLDS):
        own = places == part
        learned = new_item_prior(features, np.where(own, 0, counts), model.items, model.variance)
        found = found.with_new(own, features[np.flatnonzero(own)], *learned)
    return found
