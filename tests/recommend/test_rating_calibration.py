"""Calibration of predicted ratings on held-out users."""

import numpy as np
import pytest
from scipy.special import ndtr

from palate.recommend.rating_calibration import (
    RatingCalibration,
    ShownHistories,
    fit_calibration,
    held_out_users,
    show_parts,
)
from palate.schema import Interactions


def histories(lengths):
    number = int(sum(lengths))
    rows = np.arange(number)
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    return Interactions(offsets, rows.astype(np.int32), rows.astype(np.uint8), rows), rows.astype(np.float64)


def test_every_user_is_either_learned_from_or_held_out():
    learned, held_out = held_out_users(57, np.random.default_rng(0))
    assert len(held_out) == 5
    assert sorted([*learned, *held_out]) == list(range(57))


def test_shown_ratings_are_never_those_that_are_predicted():
    events, values = histories([40, 1, 3, 2])
    shown = show_parts(events, values, np.random.default_rng(0))
    offsets = shown.events.offsets
    for user in range(len(shown.events.lengths)):
        seen = shown.events.item_index[offsets[user] : offsets[user + 1]]
        wanted = shown.wanted_item[shown.wanted_user == user]
        assert len(wanted) >= 1
        assert not set(seen) & set(wanted)
    assert shown.events.lengths.min() == 0
    assert shown.events.lengths.max() > 20
    assert shown.wanted_count.tolist() == shown.events.lengths[shown.wanted_user].tolist()
    assert shown.wanted_rating.tolist() == shown.wanted_item.tolist()


@pytest.fixture(scope="module")
def overconfident():
    """Predictions whose error is three times what they say without ratings, and half of it with a hundred."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 100, 400)
    users = np.repeat(np.arange(400), 50)
    factor = np.exp(np.log(3) + (np.log(0.5) - np.log(3)) * np.log1p(counts[users]) / np.log1p(100))
    mean = rng.normal(3.4, 0.6, len(users))
    rating = mean + rng.normal(size=len(users)) * 0.5 * factor
    events, values = histories(counts)
    shown = ShownHistories(events, values, users, np.zeros(len(users), np.int32), rating)
    return shown, mean, factor


def test_it_finds_how_wrong_the_deviations_are(overconfident):
    shown, mean, factor = overconfident
    found = fit_calibration(shown, mean, np.full_like(mean, 0.5), 3.5)
    assert found.sd(np.full_like(mean, 0.5), shown.wanted_count) == pytest.approx(0.5 * factor, rel=0.05)


def test_chances_are_as_frequent_as_they_say(overconfident):
    shown, mean, factor = overconfident
    found = fit_calibration(shown, mean, np.full_like(mean, 0.5), 3.5)
    said = found.ratings(mean[:, None], np.full((len(mean), 1), 0.5), shown.wanted_count[:, None], 3.5)
    true = ndtr((mean - 3.5) / (0.5 * factor))
    assert np.abs(said.chance[:, 0] - true).mean() < 0.02


def test_without_a_calibration_chances_are_nearly_those_of_a_normal_distribution():
    z = np.linspace(-3, 3, 50)
    assert np.abs(RatingCalibration().like(z, np.zeros(50)) - ndtr(z)).max() < 0.01


@pytest.mark.parametrize("rating", [1.0, 5.0])
def test_data_with_one_class_keeps_the_normal_distribution(overconfident, rating):
    shown, mean, _ = overconfident
    same = ShownHistories(
        shown.events, shown.values, shown.wanted_user, shown.wanted_item, np.full(len(mean), rating)
    )
    assert fit_calibration(same, mean, np.ones_like(mean), 3.5).chance == RatingCalibration().chance
    few = ShownHistories(shown.events, shown.values, *(np.empty(0, np.int64) for _ in range(3)))
    assert fit_calibration(few, np.empty(0), np.empty(0), 3.5) == RatingCalibration()
