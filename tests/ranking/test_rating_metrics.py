"""Rating metrics against scikit-learn's and manual calculations."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score, root_mean_squared_error

from palate.ranking.ratings.metrics import LEVELS, RATING_METRICS, PredictedRatings, Resamples

USERS, RATINGS = 30, 900


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    user = rng.integers(USERS, size=RATINGS)
    user[:USERS] = np.arange(USERS)
    mean = np.round(rng.normal(3.4, 0.7, RATINGS), 1)  # some are equal
    rating = np.clip(np.round(mean + rng.normal(0, 0.8, RATINGS)), 1, 5)
    chance = 1 / (1 + np.exp(-2 * (mean - 3.5)))
    return PredictedRatings(
        USERS, user, rating, rating > 3.5, mean, np.full(RATINGS, 0.85), chance, (1.0, 5.0)
    )


def scored(predicted, weights=None):
    weights = np.ones((1, predicted.users)) if weights is None else weights
    return dict(zip(RATING_METRICS, predicted.values(weights)[0], strict=True))


def test_errors_and_areas_are_those_of_scikit_learn():
    predicted = drawn()
    found = scored(predicted)
    mean = np.clip(predicted.mean, 1, 5)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(predicted.rating, mean))
    assert found["mae"] == pytest.approx(mean_absolute_error(predicted.rating, mean))
    assert found["auc"] == pytest.approx(roc_auc_score(predicted.liked, predicted.chance))
    areas = [
        roc_auc_score(predicted.liked[own], predicted.chance[own])
        for own in (predicted.user == user for user in range(USERS))
        if 0 < predicted.liked[own].mean() < 1
    ]
    assert found["uauc"] == pytest.approx(np.mean(areas))
    assert predicted.users_with_both == len(areas)


def test_a_weight_counts_a_user_as_often():
    predicted = drawn()
    weights = np.random.default_rng(1).integers(0, 4, USERS)
    rows = np.concatenate(
        [np.flatnonzero(predicted.user == user) for user in np.repeat(range(USERS), weights)]
    )
    columns = (
        predicted.user,
        predicted.rating,
        predicted.liked,
        predicted.mean,
        predicted.sd,
        predicted.chance,
    )
    owner, *repeated = (one[rows] for one in columns)
    copy = PredictedRatings(USERS, owner, *repeated, predicted.scale)
    found, expected = scored(predicted, weights[None].astype(float)), scored(copy)
    for name in ("rmse", "mae", "auc"):
        assert found[name] == pytest.approx(expected[name])


def test_pairs_and_calibration_by_hand():
    predicted = PredictedRatings(
        users=2,
        user=np.array([0, 0, 0, 1, 1]),
        rating=np.array([5.0, 3.0, 3.0, 4.0, 2.0]),
        liked=np.array([True, False, False, True, False]),
        mean=np.array([4.0, 4.0, 3.0, 2.0, 3.0]),
        sd=np.full(5, 1.0),
        chance=np.array([0.9, 0.6, 0.2, 0.4, 0.4]),
        scale=(1.0, 5.0),
    )
    found = scored(predicted)
    assert predicted.pairs == 3  # of user 0 one is right and one is tied, that of user 1 is wrong
    assert found["pairs"] == pytest.approx(1.5 / 3)
    assert found["uauc"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["like_ece"] == pytest.approx(np.mean([0.1, 0.6, 0.2, 0.6, 0.4]))
    inside = [
        np.mean(np.abs(predicted.rating - predicted.mean) <= width)
        for width in (0.6745, 1.2816, 1.6449, 1.96)
    ]
    assert found["interval_ece"] == pytest.approx(np.mean(np.abs(np.array(inside) - LEVELS)))


def test_errors_are_those_of_ratings_on_the_scale_and_order_is_not_lost_there():
    predicted = PredictedRatings(
        1,
        np.zeros(2, dtype=int),
        np.array([5.0, 4.0]),
        np.array([True, True]),
        np.array([6.0, 5.5]),
        np.ones(2),
        np.ones(2),
        (1.0, 5.0),
    )
    found = scored(predicted)
    assert (found["mae"], found["pairs"]) == (0.5, 1.0)
    assert np.isnan(found["auc"])


def test_intervals_are_of_resampled_users_and_differences_of_the_same_ones():
    predicted = drawn()
    resamples = Resamples.drawn(USERS, 0)
    values = resamples.values(predicted)
    scores = resamples.scores({name: value[None] for name, value in values.items()})
    assert scores["rmse"].low < scores["rmse"].value < scores["rmse"].high
    per_user = [predicted.error[predicted.user == user] for user in range(USERS)]
    rng = np.random.default_rng(5)
    again = [
        np.sqrt(np.mean(np.concatenate([per_user[user] for user in rng.integers(USERS, size=USERS)]) ** 2))
        for _ in range(1000)
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    assert (scores["rmse"].low, scores["rmse"].high) == (
        pytest.approx(low, abs=0.01),
        pytest.approx(high, abs=0.01),
    )
    nothing = resamples.scores(
        {"rmse": (values["rmse"] - Resamples.drawn(USERS, 0).values(drawn())["rmse"])[None]}
    )
    assert (nothing["rmse"].value, nothing["rmse"].low, nothing["rmse"].high) == (0, 0, 0)


def test_an_undefined_metric_is_left_out():
    resamples = Resamples.drawn(3, 0)
    assert resamples.scores({"auc": np.full((1, 1001), np.nan)}) == {}


def test_an_interval_of_several_trainings_holds_what_they_differ_by():
    resamples = Resamples.drawn(USERS, 0)
    alike = resamples.values(drawn())["rmse"]
    one, three = (
        resamples.scores({"rmse": np.stack([alike + step for step in steps])})["rmse"]
        for steps in ([0], [-1, 0, 1])
    )
    assert three.value == pytest.approx(one.value)
    assert three.low < one.low - 0.5 < one.high + 0.5 < three.high
