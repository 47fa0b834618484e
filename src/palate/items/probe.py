"""A linear probe from item vectors to categories: where the user encoder's queries start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.errors import DataError
from palate.items.table import ItemTable
from palate.schema import Bools, Floats


@dataclass(frozen=True, eq=False)
class CategoryQueries:
    """One linear score a category: about 1 for an item that has it and 0 for one that has not."""

    weights: Floats  # [L, F·S]
    bias: Floats  # [L]

    def scores(self, vectors: Floats) -> Floats:
        """Vectors [N, F, S] → scores [N, L]."""
        scores: Floats = vectors.reshape(len(vectors), -1) @ self.weights.T + self.bias
        return scores


def category_queries(table: ItemTable, category_matrix: Bools, ridge: float) -> CategoryQueries:
    """Ridge regression of the categories [I, L] on the item vectors, in closed form.

    ``ridge`` (above 0) is the penalty on the squared weights beside the sum of squared errors over all items;
    the bias carries no penalty. Raises :class:`DataError` when the matrix has other items than the table.
    """
    if len(category_matrix) != len(table):
        raise DataError(
            f"the category matrix has {len(category_matrix)} items and the item table {len(table)}; "
            "build the table from this dataset"
        )
    vectors = table.vectors.reshape(len(table), -1)  # [I, F·S]
    labels = category_matrix.astype(np.float32)
    mean, label_mean = vectors.mean(axis=0), labels.mean(axis=0)
    centred = vectors - mean
    gram = (centred.T @ centred).astype(np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    weights = np.linalg.solve(gram, centred.T @ (labels - label_mean)).T  # [L, F·S]
    bias = label_mean - weights @ mean
    return CategoryQueries(weights.astype(np.float32), bias.astype(np.float32))


def category_log_odds(table: ItemTable, category_matrix: Bools, ridge: float = 1.0) -> CategoryQueries:
    """:func:`category_queries` brought to log-odds: σ of a score is the chance that an item has the category.

    A logistic regression on each category's one ridge score, which costs next to nothing for any catalogue.
    """
    from sklearn.linear_model import LogisticRegression

    queries = category_queries(table, category_matrix, ridge)
    scores = queries.scores(table.vectors)
    weights, bias = queries.weights.copy(), queries.bias.copy()
    for row, has in enumerate(category_matrix.T):
        if has.all() or not has.any():
            continue
        fitted = LogisticRegression(C=100.0).fit(scores[:, row : row + 1], has)
        slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
        weights[row], bias[row] = slope * weights[row], slope * bias[row] + offset
    return CategoryQueries(weights, bias)
