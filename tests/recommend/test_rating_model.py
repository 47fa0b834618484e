"""The Gaussian model of ratings."""

import numpy as np
import pytest

from palate.recommend.ratings import RatingModel, fit_ratings
from palate.schema import Interactions

RANK, USERS, ITEMS = 2, 300, 40


@pytest.fixture(scope="module")
def world():
    """Ratings by two tastes, the items' offsets and noise; of half the items for each user."""
    rng = np.random.default_rng(0)
    taste, item = rng.normal(size=(USERS, RANK)), rng.normal(size=(ITEMS, RANK)) * 0.7
    offset = rng.normal(size=ITEMS) * 0.5
    truth = 3.5 + taste @ item.T + offset
    chosen = np.array([rng.permutation(ITEMS)[:20] for _ in range(USERS)])
    seen = np.take_along_axis(truth, chosen, axis=1) + rng.normal(size=chosen.shape) * 0.4
    offsets = np.arange(USERS + 1, dtype=np.int64) * 20
    flat = chosen.ravel().astype(np.int32)
    events = Interactions(offsets, flat, np.zeros(len(flat), np.uint8), np.zeros(len(flat), np.int64))
    model = fit_ratings(events, seen.ravel(), ITEMS, RANK + 1, 25, np.random.default_rng(1))
    return model, truth, chosen, seen


def states(model, chosen, seen):
    users = np.repeat(np.arange(len(chosen)), chosen.shape[1])
    return model.state(users, chosen.ravel(), seen.ravel(), len(chosen))


def test_it_finds_the_noise_and_predicts_better_than_item_means(world):
    model, truth, chosen, seen = world
    expected = model.expected(states(model, chosen, seen), np.tile(np.arange(ITEMS), (USERS, 1)))
    assert model.noise**0.5 == pytest.approx(0.4, abs=0.05)
    by_item_mean = np.sqrt(((truth - truth.mean(axis=0)) ** 2).mean())
    assert np.sqrt(((expected.mean - truth) ** 2).mean()) < 0.4 * by_item_mean


def test_its_uncertainty_is_honest_and_shrinks_with_the_history(world):
    model, truth, chosen, seen = world
    everything = np.tile(np.arange(ITEMS), (USERS, 1))
    short = model.expected(states(model, chosen[:, :2], seen[:, :2]), everything)
    long = model.expected(states(model, chosen, seen), everything)
    assert (long.sd < short.sd).mean() > 0.95
    for one in (short, long):
        squares = ((truth - one.mean) ** 2 / (one.sd**2 - model.noise)).mean()
        assert 0.5 < squares < 1.7


def test_the_posterior_is_that_of_a_linear_regression_where_items_are_known():
    rng = np.random.default_rng(2)
    items = rng.normal(size=(6, 3))
    model = RatingModel(3.0, 0.5, items, np.zeros((6, 3, 3)))
    index, ratings = np.array([0, 3, 4]), np.array([4.0, 2.0, 5.0])
    mean, covariance = model.posterior(model.state(np.zeros(3, int), index, ratings, 1))
    f, y = items[index, :2], ratings - 3.0 - items[index, 2]
    inverse = np.linalg.inv(np.eye(2) + f.T @ f / 0.5)
    assert covariance[0] == pytest.approx(inverse)
    assert mean[0] == pytest.approx(inverse @ f.T @ y / 0.5)


def test_states_add_and_take_away_exactly(world):
    model, _, chosen, seen = world
    whole = states(model, chosen, seen)
    first, second = states(model, chosen[:, :12], seen[:, :12]), states(model, chosen[:, 12:], seen[:, 12:])
    for name in ("precision", "vector", "count"):
        assert getattr(first.plus(second), name) == pytest.approx(getattr(whole, name))
        assert getattr(whole.plus(second, -1), name) == pytest.approx(getattr(first, name), abs=1e-8)


def test_someone_unknown_gets_the_items_means(world):
    model, _, _, _ = world
    nobody = model.state(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1)
    expected = model.expected(nobody, np.arange(ITEMS)[None])
    assert expected.mean[0] == pytest.approx(model.mean + model.items[:, -1])
