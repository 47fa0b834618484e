"""The Gaussian rating models."""

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from palate.config.recipe import RecommendSettings
from palate.recommend.content import item_features
from palate.recommend.rating_calibration import RatingCalibration
from palate.recommend.rating_fit import fit_rating_model, fit_ratings
from palate.recommend.ratings import RatingModel
from palate.recommend.relations import VectorRelation
from palate.schema import Interactions
from small_dataset import small_dataset

RANK, USERS, ITEMS = 2, 300, 40
CONSTANT = sparse.csr_matrix(np.ones((ITEMS, 1)))


def interactions(chosen):
    users, each = chosen.shape
    flat = chosen.ravel().astype(np.int32)
    offsets = np.arange(users + 1, dtype=np.int64) * each
    return Interactions(offsets, flat, np.zeros(len(flat), np.uint8), np.zeros(len(flat), np.int64))


@pytest.fixture(scope="module")
def world():
    """Ratings by two tastes, the items' offsets and noise; of half the items for each user."""
    rng = np.random.default_rng(0)
    taste, item = rng.normal(size=(USERS, RANK)), rng.normal(size=(ITEMS, RANK)) * 0.7
    offset = rng.normal(size=ITEMS) * 0.5
    truth = 3.5 + taste @ item.T + offset
    chosen = np.array([rng.permutation(ITEMS)[:20] for _ in range(USERS)])
    seen = np.take_along_axis(truth, chosen, axis=1) + rng.normal(size=chosen.shape) * 0.4
    model = fit_ratings(
        interactions(chosen), seen.ravel(), CONSTANT, 3.5, 2, RANK + 1, 25, np.random.default_rng(1)
    )
    return model, truth, chosen, seen


def states(model, chosen, seen):
    users = np.repeat(np.arange(len(chosen)), chosen.shape[1])
    return model.state(users, chosen.ravel(), seen.ravel(), len(chosen))


def everything():
    return np.tile(np.arange(ITEMS), (USERS, 1))


def test_it_finds_the_noise_and_predicts_better_than_item_means(world):
    model, truth, chosen, seen = world
    expected = model.expected(states(model, chosen, seen), everything())
    assert model.noise**0.5 == pytest.approx(0.4, abs=0.05)
    by_item_mean = np.sqrt(((truth - truth.mean(axis=0)) ** 2).mean())
    assert np.sqrt(((expected.mean - truth) ** 2).mean()) < 0.4 * by_item_mean


def test_its_uncertainty_is_honest_and_shrinks_with_the_history(world):
    model, truth, chosen, seen = world
    short = model.expected(states(model, chosen[:, :2], seen[:, :2]), everything())
    long = model.expected(states(model, chosen, seen), everything())
    assert (long.sd < short.sd).mean() > 0.95
    for one in (short, long):
        squares = ((truth - one.mean) ** 2 / (one.sd**2 - model.noise.mean())).mean()
        assert 0.5 < squares < 1.7


def test_the_posterior_is_that_of_a_linear_regression_where_items_are_known():
    rng = np.random.default_rng(2)
    items = rng.normal(size=(1, 6, 3))
    nothing = np.zeros((1, 6, 3), np.float32)
    model = RatingModel(
        3.0,
        3.5,
        np.array([0.5]),
        items,
        nothing,
        np.ones(6, np.bool_),
        nothing[:, :1],
        nothing[:, 0],
        nothing[:, 0],
        nothing[:, :3, :2],
        RatingCalibration(),
        RatingCalibration(),
    )
    index, ratings = np.array([0, 3, 4]), np.array([4.0, 2.0, 5.0])
    mean, covariance = model.posterior(model.state(np.zeros(3, int), index, ratings, 1))
    f, y = items[0, index, :2], ratings - 3.0 - items[0, index, 2]
    inverse = np.linalg.inv(np.eye(2) + f.T @ f / 0.5)
    assert covariance[0, 0] == pytest.approx(inverse)
    assert mean[0, 0] == pytest.approx(inverse @ f.T @ y / 0.5)


def test_states_add_and_take_away_exactly(world):
    model, _, chosen, seen = world
    whole = states(model, chosen, seen)
    first, second = states(model, chosen[:, :12], seen[:, :12]), states(model, chosen[:, 12:], seen[:, 12:])
    for name in ("precision", "vector", "seen", "count"):
        assert getattr(first.plus(second), name) == pytest.approx(getattr(whole, name))
        assert getattr(whole.plus(second, -1), name) == pytest.approx(getattr(first, name), abs=1e-8)


def test_someone_unknown_gets_the_items_means(world):
    model, _, _, _ = world
    nobody = model.state(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1)
    expected = model.expected(nobody, np.arange(ITEMS)[None])
    assert expected.mean[0] == pytest.approx(model.mean + model.items[:, :, -1].mean(axis=0), abs=1e-5)


@pytest.fixture(scope="module")
def genres():
    """Items of two kinds that a taste tells apart, one kind better; the last ten are rated by nobody."""
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 2, ITEMS)
    taste = rng.normal(size=USERS)
    truth = 3.5 + np.where(kind, 1.0, -1.0) * taste[:, None] * 0.7 + 0.6 * kind
    chosen = np.array([rng.permutation(ITEMS - 10)[:15] for _ in range(USERS)])
    seen = np.take_along_axis(truth, chosen, axis=1) + rng.normal(size=chosen.shape) * 0.4
    features = sparse.csr_matrix(np.column_stack([np.ones(ITEMS), kind]))
    model = fit_ratings(interactions(chosen), seen.ravel(), features, 3.5, 2, 2, 15, np.random.default_rng(1))
    return model, features, truth, chosen, seen


def test_items_that_nobody_has_rated_get_what_their_features_say(genres):
    model, _, truth, chosen, seen = genres
    expected = model.expected(states(model, chosen, seen), everything())
    error = np.sqrt(((expected.mean - truth) ** 2).mean(axis=0))
    plain = np.sqrt(((truth - truth.mean()) ** 2).mean())
    assert error[-10:].max() < 0.75 * plain
    assert expected.sd[:, -10:].mean() > expected.sd[:, :-10].mean()


def test_a_new_item_is_predicted_as_one_of_the_training_that_nobody_has_rated(genres):
    model, features, _, chosen, seen = genres
    grown = model.with_items(features[-2:])
    asked = np.tile(np.r_[np.arange(ITEMS - 2, ITEMS), ITEMS, ITEMS + 1], (USERS, 1))
    expected = grown.expected(states(model, chosen, seen), asked)
    assert expected.mean[:, 2:] == pytest.approx(expected.mean[:, :2], abs=0.05)
    assert expected.sd[:, 2:] == pytest.approx(expected.sd[:, :2], abs=0.05)
    again = model.expected(states(model, chosen, seen), everything())
    known = grown.expected(states(grown, chosen, seen), everything())
    assert known.mean == pytest.approx(again.mean)


def test_features_are_years_and_the_vectors_of_content():
    items = pl.DataFrame({"year": [2010, None]})
    vectors = VectorRelation(np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32))
    found = item_features(items, {"texts": vectors})
    assert found.toarray().tolist() == [[1, 1, 0.5, 1, 0], [1, 0, 0, 0, 2]]


def test_which_items_someone_rates_says_something_whatever_the_ratings():
    """Half of the items are of one kind, which users rate the more often the more they like it."""
    rng = np.random.default_rng(4)
    kind = np.repeat([1.0, -1.0], ITEMS // 2)
    taste = rng.normal(size=USERS)
    odds = 1 / (1 + np.exp(-2 * taste[:, None] * kind))
    chosen = np.array([rng.choice(ITEMS, 15, replace=False, p=one / one.sum()) for one in odds])
    seen = 3.5 + np.take_along_axis(taste[:, None] * kind, chosen, axis=1) * 0.6
    seen += rng.normal(size=seen.shape) * 0.5
    model = fit_ratings(interactions(chosen), seen.ravel(), CONSTANT, 3.5, 2, 2, 20, np.random.default_rng(1))
    of_one_kind = np.arange(6)[None]
    average = np.full((1, 6), model.mean) + model.items[:, :6, -1].mean(axis=0)
    state = model.state(np.zeros(6, int), of_one_kind[0], average[0], 1)
    liked, other = model.expected(state, np.array([[10, 30]])).mean[0]
    assert liked > other + 0.2


def test_items_of_a_history_count_nothing_where_that_helps_nobody_who_was_held_out():
    films = small_dataset()  # what is rated there is drawn at random
    events = films.interactions.of_users(films.users("train"))
    settings = RecommendSettings(rating_models=1, rating_rank=2, rating_iterations=5)
    model = fit_rating_model(films, events, settings, {}, np.random.default_rng(0))
    free = fit_ratings(
        events,
        films.rating_values[events.rating_index].astype(np.float64),
        item_features(films.items, {}),
        3.5,
        1,
        2,
        5,
        np.random.default_rng(0),
    )
    assert np.abs(model.taste).max() <= 0.5 * np.abs(free.taste).max()
