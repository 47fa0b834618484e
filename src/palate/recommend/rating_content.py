"""Priors of items' factors and offsets from content features: categories, texts and year."""

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
"""L2 penalty of the feature weights."""
MOST_FEATURES = 1_000
"""Maximum number of features used; those of the most items are."""
FOLDS = 5
"""Cross-validation folds over items that calibrate predictions of new items."""


@dataclass(frozen=True, eq=False)
class ContentRegression:
    """Weighted ridge regression of item values on item features, of which the first is a constant."""

    features: sparse.csr_matrix  # [I, D]
    weight: Doubles  # [I] regression weight of each item; the mean of those above 0 is 1
    inputs: sparse.csr_matrix  # [I, D'] features used
    factor: tuple[Doubles, bool]  # Cholesky factor of the penalised Gram matrix of the inputs
    used: Ints  # [D'] indices of the features used

    @classmethod
    def of(cls, features: sparse.csr_matrix, weight: Doubles) -> ContentRegression:
        """Factorise the regression.

        Args:
            features: Features of the items, [I, D].
            weight: Regression weight of each item, [I]; items with 0 are ignored.

        Returns:
            The regression, which can be solved for any values of these items.
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
    """Compute the weighted mean squared distance of items from their expected values.

    Args:
        item: Posterior means of the items' values, [I, W].
        own: Their posterior variances, [I, W].
        expected: Expected values, [I, W].
        weight: Weight of each item, [I].

    Returns:
        The expected squared distances, [W].
    """
    found: Doubles = np.maximum(np.average((item - expected) ** 2 + own, axis=0, weights=weight), LEAST)
    return found


def new_item_prior(
    features: sparse.csr_matrix, counts: Ints, items: Floats, variance: Floats
) -> tuple[Floats, Floats]:
    """Fit a prior of items without ratings, for items that will be rated as the others are.

    Most ratings are of few items, which are liked more than the rest. So the feature weights are fitted with the
    square roots of the items' numbers of ratings as regression weights, and the intercept with these numbers.

    Args:
        features: Features of the items, [I, D].
        counts: Number of ratings of each item, [I]; at least one is above 0.
        items: Factors and offsets of M models, [M, I, K + 1].
        variance: Their variances, [M, I, K + 1].

    Returns:
        The feature weights [M, D, K + 1], and the variances around the prior means, [M, K + 1].
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
    """Replace all items by their priors as new items, cross-validated: each fold by a prior fitted on the others.

    Args:
        model: Fitted models.
        features: Features of the items, [I, D].
        counts: Number of ratings of each item in training, [I].
        rng: Random number generator of the folds.

    Returns:
        The models with replaced items; None if there are too few items.
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
