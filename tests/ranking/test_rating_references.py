"""Reference rating predictors against regressions solved per user."""

import numpy as np
import pytest

from palate.ranking.ratings.biased_mf import BiasedMf, BiasedMfSettings
from palate.ranking.ratings.item_mean import ItemMean, ItemMeanSettings
from palate.ranking.ratings.linear import LinearRatings
from palate.schema import Interactions
from small_dataset import small_dataset

FILMS = small_dataset()
EVENTS = FILMS.interactions.of_users(FILMS.users("train"))
VALUES = FILMS.rating_values[EVENTS.rating_index].astype(np.float64)
ITEMS = len(FILMS.items)


def one_user(items):
    empty = np.zeros(len(items), dtype=np.int64)
    offsets = np.array([0, len(items)])
    return Interactions(offsets, np.array(items, np.int32), empty.astype(np.uint8), empty)


def test_a_user_is_folded_in_by_the_exact_ridge_solution():
    rng = np.random.default_rng(0)
    model = LinearRatings(rng.normal(3, 1, 6), rng.normal(size=(6, 3)), np.array([2.0, 2.0, 0.5]))
    items, values = [4, 0, 5], np.array([5.0, 1.0, 3.0])
    inputs, told = model.design[items], values - model.base[items]
    expected = np.linalg.inv(inputs.T @ inputs + np.diag(model.penalty)) @ inputs.T @ told
    assert model.users(one_user(items), values)[0] == pytest.approx(expected)
    assert model.users(one_user([]), np.empty(0))[0].tolist() == [0, 0, 0]


def test_item_means_are_smoothed_and_a_user_is_an_offset():
    settings = ItemMeanSettings(shrinkage=2, offset_shrinkage=3)
    model = ItemMean(settings).learn(EVENTS, VALUES, ITEMS)
    own = VALUES[EVENTS.item_index == 7]
    assert model.base[7] == pytest.approx((own.sum() + 2 * VALUES.mean()) / (len(own) + 2))
    told = np.array([5.0, 1.0])
    offset = (told - model.base[[3, 4]]).sum() / (2 + 3)
    assert model.users(one_user([3, 4]), told)[0, 0] == pytest.approx(offset)


def objective(model, settings, user):
    """What alternating least squares lowers: squared errors and penalties of all but the overall mean."""
    owner, item = EVENTS.owner, EVENTS.item_index
    error = VALUES - model.base[item] - (model.design[item] * user[owner]).sum(axis=1)
    factors = settings.regularization * ((user[:, :-1] ** 2).sum() + (model.design[:, :-1] ** 2).sum())
    offsets = (user[:, -1] ** 2).sum() + ((model.base - VALUES.mean()) ** 2).sum()
    return (error**2).sum() + factors + settings.offset_regularization * offsets


def test_biased_factorisation_lowers_its_objective_to_where_no_item_can_be_better():
    found = []
    for iterations in (1, 3, 300):
        settings = BiasedMfSettings(
            factors=3, regularization=1.0, offset_regularization=2.0, iterations=iterations
        )
        model = BiasedMf(settings).learn(EVENTS, VALUES, ITEMS)
        user = model.users(EVENTS, VALUES)
        found.append(objective(model, settings, user))
    assert found[0] > found[1] > found[2]
    for item in (0, 11):  # the exact regression on the users' vectors
        rows = EVENTS.item_index == item
        inputs = np.column_stack([user[EVENTS.owner[rows], :-1], np.ones(rows.sum())])
        told = VALUES[rows] - VALUES.mean() - user[EVENTS.owner[rows], -1]
        best = np.linalg.solve(inputs.T @ inputs + np.diag([1.0, 1.0, 1.0, 2.0]), inputs.T @ told)
        assert model.design[item, :3] == pytest.approx(best[:3], abs=2e-2)
        assert model.base[item] - VALUES.mean() == pytest.approx(best[3], abs=2e-2)


def test_it_predicts_held_out_films_better_than_the_mean():
    reference = BiasedMf(BiasedMfSettings(factors=2, regularization=3))
    reference.fit(FILMS.holding_out(FILMS.users("test")))
    from palate.ranking.ratings.protocols import make_rating_split

    split = make_rating_split(FILMS, "new-users", (20,))
    reference.fit(split.final)
    errors, plain = [], []
    for batch in split.test["20 visible"].batches():
        expected = reference.predict(batch.windows, batch.item_index, batch.time)
        rating = FILMS.rating_values[batch.rating_index[batch.wanted]]
        errors.append(expected.mean[batch.wanted] - rating)
        plain.append(VALUES.mean() - rating)
        assert ((expected.chance >= 0) & (expected.chance <= 1)).all()
        assert (expected.sd > 0).all()
    assert np.square(np.concatenate(errors)).mean() < 0.9 * np.square(np.concatenate(plain)).mean()
