"""Biased matrix factorisation by alternating least squares (Koren, Bell and Volinsky, 2009), with users folded in."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.config.section import KindSettings
from palate.ranking.ratings.item_mean import smoothed_means
from palate.ranking.ratings.linear import LinearRatings, LinearReference, ridge_rows
from palate.schema import Doubles, Interactions


class BiasedMfSettings(KindSettings):
    """Settings of :class:`BiasedMf`."""

    kind: str = "biased-mf"
    factors: int = Field(16, ge=1)
    regularization: float = Field(8.0, gt=0)
    """L2 penalty of user and item factors."""
    offset_regularization: float = Field(6.0, gt=0)
    """L2 penalty of user and item offsets."""
    iterations: int = Field(15, ge=1)
    seed: int = Field(0, ge=0)
    """Seed of the initial factors."""


class BiasedMf(LinearReference):
    """Predicts mean + offsets + product of factors; a user's factors are solved for from the history alone."""

    def __init__(self, settings: BiasedMfSettings) -> None:
        super().__init__()
        self._settings = settings

    def learn(self, events: Interactions, values: Doubles, items: int) -> LinearRatings:
        """Solve for users and items alternately, by ridge regressions with the other side fixed."""
        settings = self._settings
        users, k = len(events.lengths), settings.factors
        mean = float(values.mean())
        base = smoothed_means(events, values, items, settings.offset_regularization)
        design = np.ones((items, k + 1))
        design[:, :k] = np.random.default_rng(settings.seed).normal(0, 0.1, (items, k))
        penalty = np.append(np.full(k, settings.regularization), settings.offset_regularization)
        rated = sparse.csr_matrix(
            (np.ones(len(values)), events.item_index, events.offsets), shape=(users, items)
        )
        raters, owner = rated.T.tocsr(), events.owner
        for _ in range(settings.iterations):
            user = LinearRatings(base, design, penalty).users(events, values)
            inputs = np.concatenate([user[:, :k], np.ones((users, 1))], axis=1)
            residual = values - mean - user[owner, k]
            told = sparse.csr_matrix((residual, events.item_index, events.offsets), shape=(users, items))
            item = ridge_rows(raters, told.T @ inputs, inputs, penalty)
            design[:, :k], base = item[:, :k], mean + item[:, k]
        return LinearRatings(base, design, penalty)
