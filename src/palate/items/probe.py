"""Linear probes from item vectors to categories, for initial queries of user encoders and items without categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from palate.config.recipe import ItemSettings
from palate.errors import DataError, PalateError
from palate.items.encoder import EncoderIdentity, ItemEncoder
from palate.items.table import ItemTable
from palate.schema import Bools, Floats

PENALTY = 1 / 3_000
"""L2 penalty relative to the summed losses; small, because confident predictions on short sentence vectors need large
weights."""
TITLE_PENALTY = 1 / 10
"""L2 penalty of probes for new titles, which must generalise."""
MOST_TITLES = 5_000
"""Maximum number of titles that such a probe is fitted to."""
LEAST = -2.0
"""Log-odds below which the probability of a category is set to 0."""
UNKNOWN = 10.0
"""Absolute log-odds of a category that all items have, or no item."""


@dataclass(frozen=True, eq=False)
class CategoryProbe:
    """Linear map from an item's vectors to the log-odds that it has each category."""

    weights: Floats  # [L, F·S]
    bias: Floats  # [L]

    def scores(self, vectors: Floats) -> Floats:
        """Map vectors [N, F, S] to log-odds [N, L]."""
        scores: Floats = vectors.reshape(len(vectors), -1) @ self.weights.T + self.bias
        return scores


def category_probe(table: ItemTable, category_matrix: Bools) -> CategoryProbe:
    """Fit a logistic regression of the categories on the item vectors.

    The penalty is small, so that nearly every item of the catalogue is classified correctly: a user encoder that
    misclassifies one thriller in five cannot average the ratings of thrillers.

    Args:
        table: Vectors of I items.
        category_matrix: Mask of each item's categories, [I, L].

    Returns:
        The probe.

    Raises:
        DataError: The matrix and the table differ in their number of items.
    """
    if len(category_matrix) != len(table):
        raise DataError(
            f"the category matrix has {len(category_matrix)} items and the item table {len(table)}; "
            "build the table from this dataset"
        )
    return _fitted(table.vectors.reshape(len(table), -1), category_matrix, PENALTY)


class TitleProbe:
    """Predicts categories from titles alone, by a probe fitted to the titles of a catalogue.

    Args:
        titles: Titles of the catalogue's items, [I].
        membership: Mask of their categories, [I, L].
    """

    def __init__(self, titles: Sequence[str], membership: Bools) -> None:
        self._titles, self._membership = titles, membership

    def likely(self, titles: Sequence[str], encoder: ItemEncoder | None = None) -> Floats:
        """Compute the probabilities that N items have each category.

        Args:
            titles: Titles of the items, [N].
            encoder: Sentence encoder; the default one if None.

        Returns:
            Probabilities [N, L], 0 for unlikely categories; that of each item's likeliest category is at least 0.5.

        Raises:
            DataError: The sentence encoder cannot be loaded, or no item of the catalogue has a category.
        """
        asked = encoder or self._encoder
        without = f"the item {titles[0]!r} has no categories"
        try:
            vectors = asked.encode(titles)
        except PalateError as error:
            told = "and no sentence encoder is available to predict them"
            raise DataError(f"{without}, {told} ({error}); give its categories") from error
        if not self._membership.any():
            raise DataError(f"{without}, and no item of the catalogue has any; give its categories")
        scores = self._probe(asked).scores(vectors)
        likely = np.where(scores > LEAST, 1 / (1 + np.exp(-scores)), 0).astype(np.float32)
        best = np.arange(len(likely)), scores.argmax(axis=1)
        likely[best] = np.maximum(likely[best], 0.5)
        return likely

    @cached_property
    def _encoder(self) -> ItemEncoder:
        return ItemEncoder(ItemSettings())

    def _probe(self, encoder: ItemEncoder) -> CategoryProbe:
        """Return the probe for an encoder's vectors, fitted on first use."""
        if encoder.identity not in self._fits:
            known = np.flatnonzero(self._membership.any(axis=1))
            some = known[:: -(-len(known) // MOST_TITLES)]
            vectors = encoder.encode([self._titles[row] for row in some])
            self._fits[encoder.identity] = _fitted(vectors, self._membership[some], TITLE_PENALTY)
        return self._fits[encoder.identity]

    @cached_property
    def _fits(self) -> dict[EncoderIdentity, CategoryProbe]:
        return {}


def _fitted(vectors: Floats, category_matrix: Bools, penalty: float) -> CategoryProbe:
    """Fit one logistic regression per category on vectors [I, D]."""
    from sklearn.linear_model import LogisticRegression

    labels = category_matrix.shape[1]
    weights, bias = np.zeros((labels, vectors.shape[1]), np.float32), np.zeros(labels, np.float32)
    for row, has in enumerate(category_matrix.T):
        if has.all() or not has.any():
            bias[row] = UNKNOWN if has.all() else -UNKNOWN
            continue
        fitted = LogisticRegression(C=1 / penalty, tol=1e-6, max_iter=1_000).fit(vectors, has)
        weights[row], bias[row] = fitted.coef_[0], fitted.intercept_[0]
    return CategoryProbe(weights, bias)
