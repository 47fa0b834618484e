"""Linear probe from item vectors to categories, which initialises the user encoder's queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.errors import DataError
from palate.items.table import ItemTable
from palate.schema import Bools, Floats

PENALTY = 1 / 3_000
"""L2 penalty relative to the summed losses; small, because confident predictions on short sentence vectors need large
weights."""
UNKNOWN = 10.0
"""Absolute log-odds of a category that all items have, or none."""


@dataclass(frozen=True, eq=False)
class CategoryProbe:
    """Log-odds that an item has each category, as a linear function of its vectors."""

    weights: Floats  # [L, F·S]
    bias: Floats  # [L]

    def scores(self, vectors: Floats) -> Floats:
        """Map vectors [N, F, S] to log-odds [N, L]."""
        scores: Floats = vectors.reshape(len(vectors), -1) @ self.weights.T + self.bias
        return scores


def category_probe(table: ItemTable, category_matrix: Bools) -> CategoryProbe:
    """Fit a logistic regression of the categories on the item vectors.

    It is fitted until nearly every item of the catalogue is classified correctly: a user encoder that mistakes one
    thriller in five for something else cannot average the ratings of thrillers.

    Args:
        table: Vectors of I items.
        category_matrix: Which item has which category, [I, L].

    Returns:
        The probe.

    Raises:
        DataError: The matrix is of other items than the table.
    """
    from sklearn.linear_model import LogisticRegression

    if len(category_matrix) != len(table):
        raise DataError(
            f"the category matrix has {len(category_matrix)} items and the item table {len(table)}; "
            "build the table from this dataset"
        )
    vectors = table.vectors.reshape(len(table), -1)  # [I, F·S]
    labels = category_matrix.shape[1]
    weights, bias = np.zeros((labels, vectors.shape[1]), np.float32), np.zeros(labels, np.float32)
    for row, has in enumerate(category_matrix.T):
        if has.all() or not has.any():
            bias[row] = UNKNOWN if has.all() else -UNKNOWN
            continue
        fitted = LogisticRegression(C=1 / PENALTY, tol=1e-6, max_iter=1_000).fit(vectors, has)
        weights[row], bias[row] = fitted.coef_[0], fitted.intercept_[0]
    return CategoryProbe(weights, bias)
