"""Fits the rating models by variational Bayes, with priors from the items' content, and calibrates them.

Items and users are estimated in turn (Lim and Teh, 2007). The prior mean of an item's factors and offset is linear in
the item's features and is fitted jointly, so that items with few ratings stay near what their content predicts, and
unrated items of the training catalogue equal it. Items added later have a prior from another regression, because they
will be rated like popular items: most ratings are of few items, which are liked more than the rest
(:mod:`palate.recommend.rating_content`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from palate.recommend.content import item_features
from palate.recommend.rating_calibration import (
    FEWEST,
    RatingCalibration,
    ShownHistories,
    fit_calibration,
    held_out_users,
    show_parts,
)
from palate.recommend.rating_content import (
    LEAST,
    ContentRegression,
    as_new_items,
    mean_square_distance,
    new_item_prior,
)
from palate.recommend.ratings import RatingModel, seen_average
from palate.recommend.relations import VectorRelation
from palate.schema import Bools, Doubles, Interactions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palate.config.recipe import RecommendSettings
    from palate.data.dataset import Dataset

PARTS, PART_LENGTHS = 4, (5.0, 200.0)
"""Random parts of each history that the taste regression is fitted on, and the range of their expected lengths."""
TASTE_PENALTY = 200.0
"""L2 penalty of the taste weights, for standardised inputs."""
TASTE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidate shrinkage factors of the taste weights, chosen on held-out ratings."""
_AT_ONCE = 1 << 15
"""Held-out ratings per batch of predictions."""


def fit_rating_model(
    dataset: Dataset,
    events: Interactions,
    settings: RecommendSettings,
    described: Mapping[str, VectorRelation],
    rng: np.random.Generator,
) -> RatingModel:
    """Fit and calibrate the rating models of a dataset.

    Args:
        dataset: Dataset with ratings.
        events: Interactions of the training users.
        settings: Number and sizes of the models.
        described: Content relations of the items.
        rng: Random number generator of initial values and of the users held out for calibration.

    Returns:
        The calibrated models.
    """
    features = item_features(dataset.items, described)
    values = dataset.rating_values.astype(np.float64)
    like_above = dataset.info.like_above
    sizes = (settings.rating_models, settings.rating_rank, settings.rating_iterations)
    learned, held_out = held_out_users(len(events.lengths), rng)
    shown = show_parts(events.of_users(held_out), values[events.of_users(held_out).rating_index], rng)
    whole = fit_ratings(
        events, values[events.rating_index], features, like_above, *sizes, rng, dataset.new_items
    )
    if len(shown.wanted_rating) < FEWEST:
        return whole
    others = events.of_users(learned)
    partial = fit_ratings(others, values[others.rating_index], features, like_above, *sizes, rng)
    tried = [(share, *_predicted(_with_taste(partial, share), shown)) for share in TASTE_SHARES]
    share, mean, sd = min(tried, key=lambda one: float(((shown.wanted_rating - one[1]) ** 2).mean()))
    calibration = new = fit_calibration(shown, mean, sd, like_above)
    counts = np.bincount(others.item_index, minlength=features.shape[0])
    if (items := as_new_items(partial, features, counts, rng)) is not None:
        new = fit_calibration(shown, *_predicted(_with_taste(partial, share), shown, items), like_above)
    return replace(_with_taste(whole, share), calibration=calibration, new_calibration=new)


def _with_taste(model: RatingModel, share: float) -> RatingModel:
    """Scale the taste weights by a factor."""
    return replace(model, taste=(share * model.taste).astype(np.float32))


def _predicted(
    model: RatingModel, shown: ShownHistories, items: RatingModel | None = None
) -> tuple[Doubles, Doubles]:
    """Predict mean and standard deviation of the held-out ratings, [M] each, by the items of ``items`` if given."""
    asked = model if items is None else items
    users, covariance = model.posterior(model.states(shown.events, shown.values))
    parts = []
    for at in range(0, len(shown.wanted_user), _AT_ONCE):
        rows = slice(at, at + _AT_ONCE)
        owner = shown.wanted_user[rows]
        parts.append(asked.moments(users[owner], covariance[owner], shown.wanted_item[rows, None]))
    mean, sd = (np.concatenate(column)[:, 0] for column in zip(*parts, strict=True))
    return mean, sd


def fit_ratings(
    events: Interactions,
    ratings: Doubles,
    features: sparse.csr_matrix,
    like_above: float,
    models: int,
    rank: int,
    iterations: int,
    rng: np.random.Generator,
    new: Bools | None = None,
) -> RatingModel:
    """Fit M models by variational Bayes from different initial values.

    Args:
        events: Interactions of U users.
        ratings: Rating of each interaction, [N].
        features: Features of the items, [I, D]; the first is a constant.
        like_above: Ratings above this count as likes.
        models: Number of models M.
        rank: Number of factors K.
        iterations: Passes over users and items.
        rng: Random number generator of the initial values.
        new: Mask of items that were added after all ratings, [I]; none by default.

    Returns:
        The fitted models, uncalibrated.
    """
    mean = float(ratings.mean())
    shape = (len(events.lengths), features.shape[0])
    told = sparse.csr_matrix((ratings - mean, events.item_index, events.offsets), shape=shape)
    rated = sparse.csr_matrix((np.ones(len(ratings)), events.item_index, events.offsets), shape=shape)
    data = _Ratings(told, rated, told.T.tocsr(), rated.T.tocsr())
    counts = np.diff(data.raters.indptr)
    prior = ContentRegression.of(features, (counts > 0).astype(np.float64))
    fits = [_Fit(data, prior, rank, rng).run(iterations) for _ in range(models)]
    tastes = [_taste(data.rated, one.item, one.user[:, :rank], rng) for one in fits]
    items, variance = (
        np.stack(column).astype(np.float32)
        for column in zip(*((one.item, one.own_variance) for one in fits), strict=True)
    )
    new = np.zeros(len(counts), dtype=np.bool_) if new is None else new
    content, content_variance = new_item_prior(features, counts, items, variance)
    model = RatingModel(
        mean,
        like_above,
        np.array([one.noise for one in fits]),
        items,
        variance,
        new,
        content,
        content_variance,
        np.stack([centre for centre, _ in tastes]).astype(np.float32),
        np.stack([taste for _, taste in tastes]).astype(np.float32),
        RatingCalibration(),
        RatingCalibration(),
    )
    return model.with_new(new, features[np.flatnonzero(new)], content, content_variance)


def _taste(
    rated: sparse.csr_matrix, item: Doubles, user: Doubles, rng: np.random.Generator
) -> tuple[Doubles, Doubles]:
    """Fit the prior mean of a user vector from the items rated: ridge regression on random parts of histories.

    Args:
        rated: Which user rated which item, [U, I].
        item: Factors and offsets of the items, [I, K + 1].
        user: Posterior means of the user vectors from whole histories, [U, K].
        rng: Random number generator of the parts.

    Returns:
        The mean item vector over ratings, [K + 1], and the weights, [K + 1, K].
    """
    length = np.diff(rated.indptr)
    centre = (rated @ item).sum(axis=0) / length.sum()
    inputs = []
    for _ in range(PARTS):
        wanted = np.exp(rng.uniform(np.log(PART_LENGTHS[0]), np.log(PART_LENGTHS[1]), len(length)))
        part = rated.copy()
        part.data = (rng.random(part.nnz) < np.repeat(wanted / np.maximum(length, 1), length)).astype(float)
        inputs.append(seen_average(part @ item, np.asarray(part.sum(axis=1)), centre))
    table, told = np.concatenate(inputs), np.tile(user, (PARTS, 1))
    scale = np.maximum(table.std(axis=0), LEAST)
    scaled = table / scale
    weights = np.linalg.solve(scaled.T @ scaled + TASTE_PENALTY * np.eye(len(scale)), scaled.T @ told)
    return centre, weights / scale[:, None]


@dataclass(frozen=True, eq=False)
class _Ratings:
    """Ratings minus their mean, and their 0/1 masks, by user [U, I] and by item [I, U]."""

    told: sparse.csr_matrix
    rated: sparse.csr_matrix
    told_by_item: sparse.csr_matrix
    raters: sparse.csr_matrix


class _Fit:
    """Working arrays of one fit; W = K + 1 values per item: factors and offset."""

    def __init__(self, data: _Ratings, prior: ContentRegression, rank: int, rng: np.random.Generator) -> None:
        self.data, self.prior, self.rank = data, prior, rank
        width, items = rank + 1, data.told.shape[1]
        variance = max(float(data.told.data.var()), LEAST)
        self.noise = 0.7 * variance
        counts = np.diff(data.raters.indptr)
        self.item = rng.normal(0, 0.1 * np.sqrt(variance), (items, width))
        self.item[:, 0] += 0.4 * np.sqrt(variance)
        self.item[:, rank] = np.asarray(data.told.sum(axis=0)).ravel() / (counts + 5)
        self.user = np.zeros((data.told.shape[0], width))
        self.covariance = np.zeros((items, width, width))
        self.weights = np.zeros((prior.features.shape[1], width))
        self.weights[0] = self.item.mean(axis=0)
        self.prior_variance = np.full(width, 0.1 * variance)

    @property
    def own_variance(self) -> Doubles:
        diagonal: Doubles = np.einsum("iaa->ia", self.covariance)
        return diagonal

    def run(self, iterations: int) -> _Fit:
        for _ in range(iterations):
            self.user, second = self._users()
            raters = self._summed(self.data.raters, second)
            self._items(self.user, raters)
            self._noise(self.user, raters)
        return self

    @staticmethod
    def _summed(matrix: sparse.csr_matrix, symmetric: Doubles) -> Doubles:
        """Sum symmetric matrices [N, W, W] over the columns of a 0/1 matrix [M, N], by their upper triangles."""
        width = symmetric.shape[1]
        row, column = np.triu_indices(width)
        upper = matrix @ symmetric[:, row, column]
        summed = np.empty((matrix.shape[0], width, width))
        summed[:, row, column] = summed[:, column, row] = upper
        return summed

    def _users(self) -> tuple[Doubles, Doubles]:
        """Update the users: means with a constant appended [U, W], and second moments [U, W, W]."""
        k, users = self.rank, self.data.told.shape[0]
        factors = self.item[:, :k]
        outer = factors[:, :, None] * factors[:, None, :] + self.covariance[:, :k, :k]
        precision = self._summed(self.data.rated, outer) / self.noise
        shift = factors * self.item[:, k, None] + self.covariance[:, :k, k]
        covariance = np.linalg.inv(precision + np.eye(k))
        told = (self.data.told @ factors - self.data.rated @ shift) / self.noise
        user = np.concatenate([np.einsum("uij,uj->ui", covariance, told), np.ones((users, 1))], axis=1)
        second = user[:, :, None] * user[:, None, :]
        second[:, :k, :k] += covariance
        return _standardised(user, second)

    def _items(self, user: Doubles, raters: Doubles) -> None:
        """Update the items and their prior; ``raters`` are the second moments summed over each item's users."""
        self.covariance = np.linalg.inv(raters / self.noise + np.diag(1 / self.prior_variance))
        expected = self.prior.features @ self.weights
        told = self.data.told_by_item @ user / self.noise + expected / self.prior_variance
        self.item = np.einsum("iab,ib->ia", self.covariance, told)
        self.weights = self.prior.weights(self.item)
        expected = self.prior.features @ self.weights
        self.prior_variance = mean_square_distance(self.item, self.own_variance, expected, self.prior.weight)

    def _noise(self, user: Doubles, raters: Doubles) -> None:
        """Set the noise to the expected squared residual of a rating."""
        data = self.data
        moments = self.item[:, :, None] * self.item[:, None, :] + self.covariance
        squares = float(data.told.data @ data.told.data)
        cross = float(np.einsum("uw,uw->", data.told @ self.item, user))
        explained = float(np.einsum("iab,iab->", moments, raters))
        self.noise = max((squares - 2 * cross + explained) / max(data.told.nnz, 1), LEAST)


def _standardised(user: Doubles, second: Doubles) -> tuple[Doubles, Doubles]:
    """Whiten the user vectors to mean 0 and covariance 1, which matches their prior and saves iterations."""
    k = user.shape[1] - 1
    mean, spread = user[:, :k].mean(axis=0), second[:, :k, :k].mean(axis=0)
    root = np.linalg.cholesky(spread - np.outer(mean, mean) + LEAST * np.eye(k))
    change = np.eye(k + 1)
    change[:k, :k] = np.linalg.inv(root)
    change[:k, k] = -change[:k, :k] @ mean
    return user @ change.T, change @ second @ change.T
