"""Linear rating predictors: a base rating plus an item vector times a user vector from ridge regression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from palate.recommend.rating_calibration import (
    ExpectedRatings,
    RatingCalibration,
    fit_calibration,
    held_out_users,
    show_parts,
)
from palate.schema import Doubles, Indices, Interactions, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class LinearRatings:
    """Ratings of I items as base + design · user, with the penalties of the ridge regression for users."""

    base: Doubles  # [I]
    design: Doubles  # [I, W]
    penalty: Doubles  # [W]

    def users(self, events: Interactions, values: Doubles) -> Doubles:
        """Solve for the vectors of B users from their ratings [N], [B, W]."""
        residual = values - self.base[events.item_index]
        shape = (len(events.lengths), len(self.base))
        rated = sparse.csr_matrix((np.ones(len(values)), events.item_index, events.offsets), shape=shape)
        told = sparse.csr_matrix((residual, events.item_index, events.offsets), shape=shape)
        return ridge_rows(rated, told @ self.design, self.design, self.penalty)


def ridge_rows(rated: sparse.csr_matrix, told: Doubles, design: Doubles, penalty: Doubles) -> Doubles:
    """Solve one ridge regression per row.

    Args:
        rated: Number of observations of each column in each row, [R, C].
        told: Design times response, summed over observations, [R, W].
        design: Inputs of each column, [C, W].
        penalty: L2 penalty of each coefficient, [W].

    Returns:
        The coefficients, [R, W].
    """
    width = design.shape[1]
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(design), width * width)
    gram = (rated @ outer).reshape(-1, width, width) + np.diag(penalty)
    solved: Doubles = np.linalg.solve(gram, told[..., None])[..., 0]
    return solved


class LinearReference(ABC):
    """Predicts by :class:`LinearRatings`, with spread and like probabilities calibrated on held-out training users."""

    def __init__(self) -> None:
        self._model: LinearRatings | None = None
        self._calibration = RatingCalibration()
        self._like_above = 0.0
        self._values = np.empty(0)

    @abstractmethod
    def learn(self, events: Interactions, values: Doubles, items: int) -> LinearRatings:
        """Fit to ratings [N] of I items."""

    def fit(self, dataset: Dataset) -> None:
        """Calibrate on held-out users, then fit to all users of the dataset."""
        self._like_above = dataset.info.like_above
        self._values = dataset.rating_values.astype(np.float64)
        items, events = len(dataset.items), dataset.interactions
        events = events.of_users(np.flatnonzero(events.lengths > 0))
        rng = np.random.default_rng(0)
        learned, held_out = held_out_users(len(events.lengths), rng)
        others = events.of_users(learned)
        model = self.learn(others, self._values[others.rating_index], items)
        kept = events.of_users(held_out)
        shown = show_parts(kept, self._values[kept.rating_index], rng)
        user = model.users(shown.events, shown.values)[shown.wanted_user]
        mean = model.base[shown.wanted_item] + (model.design[shown.wanted_item] * user).sum(axis=1)
        self._calibration = fit_calibration(shown, mean, np.ones_like(mean), self._like_above)
        self._model = self.learn(events, self._values[events.rating_index], items)

    def predict(self, windows: Windows, candidates: Indices, times: Ints) -> ExpectedRatings:
        """Predict ratings, with users folded in from their windows."""
        model = self._model
        assert model is not None, "fit first"
        events = windows.interactions()
        user = model.users(events, self._values[events.rating_index])
        mean = model.base[candidates] + np.einsum("bcw,bw->bc", model.design[candidates], user)
        count = windows.length[:, None]
        return self._calibration.ratings(mean, np.ones_like(mean), count, self._like_above)
