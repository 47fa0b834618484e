"""Simulation of users over the real catalogue, fitted to the training users.

A model memorises a few hundred real histories; from many thousands of simulated ones it learns the label rule. Ratings
follow a mixed-effects model: overall mean, item effect, the user's taste for the item's features (a constant, the
categories, and principal components of the item vectors), and noise. A simulated user has rated the items of a real
training user (the template), with a fraction of them exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.data.windows import require_training_users
from palate.schema import Doubles, Floats, Indices, Interactions, Ints

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

DIRECTIONS = 8  # principal components of the item vectors, used as features beside the categories
EXCHANGED = 0.3  # share of a template's items that is exchanged for others, drawn by popularity
ITEM_DAMPING = 5.0  # prior weight, in ratings, with which item means are shrunk to the overall mean
MOST_FITTED = 4_000  # training users that the tastes' covariance is estimated from
ROUNDS = 8  # iterations of expectation maximisation


@dataclass(frozen=True, eq=False)
class FittedPopulation:
    """Parameters of the simulation, fitted to T training users with D features."""

    features: Floats  # [I, D] features of items; the first is the constant 1
    item_mean: Doubles  # [I] overall mean and item effect
    taste: Doubles  # [T, D] posterior mean of each fitted user
    taste_factor: Doubles  # [T, D, D] Cholesky factor of each fitted user's posterior covariance
    prior_mean: Doubles  # [D]
    prior_factor: Doubles  # [D, D] Cholesky factor of the population's covariance
    noise: Doubles  # [T] standard deviation of each fitted user's noise
    histories: Interactions  # of the fitted users, used as templates
    rating_values: Floats  # [R]


def fit_population(dataset: Dataset, item_vectors: Floats, rng: np.random.Generator) -> FittedPopulation:
    """Fit the simulation to the training users; ``item_vectors`` is [I, F, S]."""
    users = dataset.users("train")
    if len(users) > MOST_FITTED:
        users = np.sort(rng.choice(users, MOST_FITTED, replace=False))
    require_training_users(dataset, users, "the simulation")
    histories = dataset.interactions.of_users(users)
    rating = dataset.rating_values.astype(np.float64)[histories.rating_index]
    features = _features(dataset, item_vectors)
    item_mean = _item_means(histories, rating, len(features))
    residual = rating - item_mean[histories.item_index]
    gram, moment, energy = _moments(features, histories, residual)
    count = histories.lengths.astype(np.float64)
    size = features.shape[1]
    prior_mean, covariance, variance = np.zeros(size), 0.1 * np.eye(size), np.full(len(users), residual.var())
    for _ in range(ROUNDS):
        precision = np.linalg.inv(covariance)
        posterior = np.linalg.inv(gram / variance[:, None, None] + precision)
        taste = np.einsum("tij,tj->ti", posterior, moment / variance[:, None] + precision @ prior_mean)
        prior_mean = taste.mean(axis=0)
        centred = taste - prior_mean
        covariance = (centred.T @ centred + posterior.sum(axis=0)) / len(users) + 1e-6 * np.eye(size)
        squares = (
            energy
            - 2 * np.einsum("ti,ti->t", taste, moment)
            + np.einsum("tij,tij->t", gram, posterior + taste[:, :, None] * taste[:, None, :])
        )
        typical = squares.sum() / count.sum()
        variance = (squares + 10 * typical) / (count + 10)
    return FittedPopulation(
        features=features,
        item_mean=item_mean,
        taste=taste,
        taste_factor=np.linalg.cholesky(posterior + 1e-9 * np.eye(size)).astype(np.float64),
        prior_mean=prior_mean,
        prior_factor=np.linalg.cholesky(covariance).astype(np.float64),
        noise=np.sqrt(variance),
        histories=histories,
        rating_values=dataset.rating_values,
    )


def simulate_users(population: FittedPopulation, users: int, rng: np.random.Generator) -> Interactions:
    """Simulate ``users`` histories.

    A taste is a random mixture of the template's taste and one drawn from the population; on average each has half of
    the variance.
    """
    template = rng.integers(len(population.taste), size=users)
    size = population.features.shape[1]
    own = population.taste[template] + np.einsum(
        "uij,uj->ui", population.taste_factor[template], rng.standard_normal((users, size))
    )
    drawn = population.prior_mean + rng.standard_normal((users, size)) @ population.prior_factor.T
    keep = rng.beta(1.0, 1.0, size=(users, 1))
    taste = population.prior_mean + np.sqrt(keep) * (own - population.prior_mean)
    taste += np.sqrt(1 - keep) * (drawn - population.prior_mean)

    histories = population.histories
    lengths = histories.lengths[template]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(users), lengths)
    rows = np.arange(offsets[-1]) - offsets[owner] + histories.offsets[template][owner]
    item = histories.item_index[rows]
    exchanged = rng.random(len(item)) < EXCHANGED
    item[exchanged] = rng.choice(histories.item_index, int(exchanged.sum()))
    liking = _liking(population.features, item, taste.astype(np.float32), owner)
    rating = population.item_mean[item] + liking
    rating += population.noise[template][owner] * rng.standard_normal(len(item))
    middles = (population.rating_values[1:] + population.rating_values[:-1]) / 2
    rating_index = np.searchsorted(middles, rating).astype(np.uint8)
    return Interactions(offsets, item, rating_index, histories.timestamp[rows])


def _liking(features: Floats, item: Indices, taste: Floats, owner: Ints, chunk: int = 500_000) -> Floats:
    """Compute the contribution of taste to each rating, [N], in chunks of rows."""
    liking = np.empty(len(item), dtype=np.float32)
    for start in range(0, len(item), chunk):
        rows = slice(start, start + chunk)
        liking[rows] = np.einsum("nd,nd->n", features[item[rows]], taste[owner[rows]])
    return liking


def _features(dataset: Dataset, item_vectors: Floats) -> Floats:
    """Compute item features: a constant, the categories, and principal components of the vectors, [I, 1 + L + 8]."""
    flat = item_vectors.reshape(len(item_vectors), -1)
    centred = flat - flat.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    directions = centred @ vectors[:, -DIRECTIONS:]
    directions /= directions.std(axis=0) + 1e-9
    constant = np.ones((len(flat), 1))
    return np.concatenate([constant, dataset.category_matrix, directions], axis=1).astype(np.float32)


def _item_means(histories: Interactions, rating: Doubles, items: int) -> Doubles:
    """Compute each item's mean rating, shrunk to the overall mean, [I]."""
    overall = rating.mean()
    total = np.bincount(histories.item_index, rating - overall, minlength=items)
    count = np.bincount(histories.item_index, minlength=items)
    means: Doubles = overall + total / (count + ITEM_DAMPING)
    return means


def _moments(
    features: Floats, histories: Interactions, residual: Doubles
) -> tuple[Doubles, Doubles, Doubles]:
    """Compute each user's sums of x·xᵀ [T, D, D], x·residual [T, D] and residual² [T]."""
    users, size = len(histories.offsets) - 1, features.shape[1]
    gram, moment, energy = np.empty((users, size, size)), np.empty((users, size)), np.empty(users)
    for user in range(users):
        rows = slice(histories.offsets[user], histories.offsets[user + 1])
        seen = features[histories.item_index[rows]].astype(np.float64)
        gram[user], moment[user] = seen.T @ seen, residual[rows] @ seen
        energy[user] = residual[rows] @ residual[rows]
    return gram, moment, energy
