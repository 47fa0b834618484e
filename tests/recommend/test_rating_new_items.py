"""Ratings of new items: mean, uncertainty and calibration."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.recommend import rating_content
from palate.recommend.fit import fit_recommender
from palate.recommend.rating_calibration import RatingCalibration
from palate.recommend.rating_content import (
    ContentRegression,
    as_new_items,
    mean_square_distance,
    new_item_prior,
)
from palate.recommend.rating_fit import fit_ratings
from palate.recommend.recommender import Recommender
from palate.schema import History, Interactions, Item
from small_dataset import small_dataset

ITEMS = 60


@pytest.fixture(scope="module")
def features():
    return sparse.csr_matrix(
        np.column_stack([np.ones(ITEMS), np.random.default_rng(0).normal(size=(ITEMS, 2))])
    )


@pytest.fixture(scope="module")
def popular_is_liked():
    """Popular items are liked more, which no feature tells; nobody has rated the last five, of which three are new."""
    rng = np.random.default_rng(1)
    offset = np.linspace(-1, 1, ITEMS)
    odds = np.where(np.arange(ITEMS) < ITEMS - 5, np.exp(2 * offset), 0)
    chosen = np.array([rng.choice(ITEMS, 12, replace=False, p=odds / odds.sum()) for _ in range(200)])
    seen = 3 + offset[chosen] + rng.normal(size=chosen.shape) * 0.3
    flat = chosen.ravel().astype(np.int32)
    events = Interactions(
        np.arange(201) * 12, flat, np.zeros(len(flat), np.uint8), np.zeros(len(flat), np.int64)
    )
    constant = sparse.csr_matrix(np.ones((ITEMS, 1)))
    new = np.arange(ITEMS) >= ITEMS - 3
    model = fit_ratings(events, seen.ravel(), constant, 3.5, 2, 2, 10, np.random.default_rng(0), new)
    return model, constant, np.bincount(flat, minlength=ITEMS), seen.mean()


def test_a_regression_is_the_weighted_one_of_scikit_learn(features, monkeypatch):
    monkeypatch.setattr(rating_content, "CONTENT_PENALTY", 1e-9)
    rng = np.random.default_rng(2)
    values, weight = rng.normal(size=(ITEMS, 3)), rng.integers(0, 4, ITEMS).astype(float)
    expected = LinearRegression(fit_intercept=False).fit(features.toarray(), values, sample_weight=weight)
    found = ContentRegression.of(features, weight).weights(values)
    assert found == pytest.approx(expected.coef_.T, abs=1e-4)


def test_features_that_hardly_differ_are_drawn_to_nothing(features):
    values = np.random.default_rng(2).normal(size=(ITEMS, 1)) + 5
    found = ContentRegression.of(features @ sparse.diags([1, 0.01, 0.01]), np.ones(ITEMS)).weights(values)
    assert np.abs(found[1:]).max() < 0.01
    assert found[0, 0] == pytest.approx(values.mean(), abs=0.01)


def test_the_variance_around_what_is_expected_counts_what_is_not_known_of_an_item():
    item, own = np.array([[1.0], [3.0], [9.0]]), np.array([[0.5], [0.5], [0.5]])
    assert mean_square_distance(item, own, np.zeros((3, 1)), np.array([3, 1, 0])) == pytest.approx(
        [(3 + 9) / 4 + 0.5]
    )


def test_a_new_item_is_as_good_as_a_rating_and_not_as_an_item_on_average(popular_is_liked):
    model, _, _, rating = popular_is_liked
    nobody = model.state(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1)
    said = model.expected(nobody, np.arange(ITEMS)[None]).mean[0]
    assert said[-3:] == pytest.approx(rating, abs=0.05)
    assert said[-3:].min() > said[:-5].mean() + 0.2


def test_an_item_that_was_there_and_that_nobody_has_rated_is_one_of_the_others(popular_is_liked):
    model = popular_is_liked[0]
    nobody = model.state(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1)
    said = model.expected(nobody, np.arange(ITEMS)[None]).mean[0]
    assert said[-5:-3] == pytest.approx(said[:-5].mean(), abs=0.1)


def test_what_is_said_of_an_item_as_a_new_one_does_not_come_from_it(popular_is_liked):
    model, constant, counts, _ = popular_is_liked
    seed = np.random.default_rng(0)
    found = as_new_items(model, constant, counts, seed)
    changed = model.items.copy()
    part = np.flatnonzero(np.isclose(found.items[0, :, -1], found.items[0, 10, -1]))
    changed[:, part] += 1  # the items that are predicted together
    kept = np.array(sorted({10, *part}))
    others = new_item_prior(
        constant, np.where(np.isin(np.arange(ITEMS), kept), 0, counts), changed, model.variance
    )
    assert found.items[:, 10] == pytest.approx(others[0][:, 0])
    assert 9 <= len(part) <= 13
    assert as_new_items(model, constant, np.where(np.arange(ITEMS) < 4, counts, 0), seed) is None


def test_new_items_have_a_calibration_of_their_own(popular_is_liked):
    model = popular_is_liked[0]
    certain = RatingCalibration(spread=(np.log(2), 0), chance=(9, 0, 0, 0))
    changed = type(model)(**{**vars(model), "new_calibration": certain})
    nobody = model.state(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1)
    before, after = (one.expected(nobody, np.arange(ITEMS)[None]) for one in (model, changed))
    assert after.sd[0, -3:] == pytest.approx(2 * before.sd[0, -3:])
    assert after.sd[0, :-3] == pytest.approx(before.sd[0, :-3])
    assert after.chance[0, -3:].min() > 0.99
    assert after.chance[0, :-3] == pytest.approx(before.chance[0, :-3])


@pytest.fixture(scope="module")
def recommender():
    films = small_dataset()
    settings = RecommendSettings(
        texts=False, rounds=1, rating_rank=2, rating_iterations=5, rating_models=2, network_size=0
    )
    return fit_recommender(films, films.users("train"), settings, ItemSettings()), films


def test_ratings_of_an_item_in_words_are_less_certain_than_those_of_most_known_ones(recommender, tmp_path):
    model, films = recommender
    history = films.histories([films.user_ids[films.users("test")[0]]])[0]
    asked = [*model.item_ids, "mine"]
    item = Item("mine", "A film that nobody has seen yet", (films.categories[0],), year=2024)
    grown = model.with_items([item])
    for user in (history, History("nobody", [], [], [])):
        *known, new = grown.rate([user], asked)[0].items
        share = np.mean([one.sd < new.sd for one in known])
        assert share > 0.5
    model.save_pretrained(tmp_path / "model")
    again = Recommender.from_pretrained(tmp_path / "model").with_items([item])
    assert again.rate([history], asked) == grown.rate([history], asked)
