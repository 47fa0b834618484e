"""Population summaries: contents, permitted users, and files."""

from dataclasses import replace

import numpy as np
import pytest

from palate.config.recipe import TaskSettings
from palate.data.population import (
    PopulationSummary,
    rating_step,
    rating_steps,
    summaries_without,
    summarise,
    summarise_histories,
)
from palate.errors import DataError, LeakageError
from palate.schema import Interactions
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.decisions import MARKS, Decisions
from small_dataset import small_dataset, small_task


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def summary(dataset):
    return summarise(dataset, small_task(dataset))


def histories(*users):
    """Interactions of users that are lists of (item, rating index)."""
    rows = [row for user in users for row in user]
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum([len(user) for user in users])]),
        item_index=np.array([item for item, _ in rows], np.int32),
        rating_index=np.array([rating for _, rating in rows], np.uint8),
        timestamp=np.arange(len(rows)),
    )


def test_shares_and_means_are_those_of_the_histories():
    has = np.array([[True, False, False], [True, True, False]])
    task = CategoryPreference(("A", "B", "C"), "genre", TaskSettings(min_count=1))
    made = summarise_histories(histories([(0, 4), (1, 2)], [(0, 3), (0, 3)]), has, (1, 2, 3, 4, 5), task)
    assert made.mean == pytest.approx((5 + 3 + 4 + 4) / 4)
    assert made.spread == pytest.approx(np.std([5, 3, 4, 4]))
    np.testing.assert_allclose(made.share[:2], [1, 0.25], atol=0.12)
    np.testing.assert_allclose(made.weighted_share, [1, 3 / 16, 0])
    np.testing.assert_allclose(
        made.means, [(16 + 4) / 5, (3 + 4) / 2, 4]
    )  # with one rating of the overall mean
    assert made.liked[0] > 0.7
    assert made.disliked.max() == 0
    assert made.often[2] < made.often[1] < made.often[0]


def test_the_covariance_is_that_of_the_tastes_without_the_noise_of_ratings():
    rng = np.random.default_rng(0)
    users, length = 3_000, 24
    taste = rng.multivariate_normal([0, 0, 0], [[0.4, 0.3, 0], [0.3, 0.4, 0], [0, 0, 0.1]], users)
    item = np.tile(np.arange(length), users)
    category = item % 3
    noisy = 5 + taste[np.repeat(np.arange(users), length), category] + rng.normal(0, 1, len(item))
    rating = np.clip(np.round((noisy - 0) * 10), 0, 100).astype(np.uint8)
    events = Interactions(np.arange(users + 1) * length, item.astype(np.int32), rating, np.arange(len(item)))
    task = CategoryPreference(("A", "B", "C"), "genre", TaskSettings())
    values = tuple(np.arange(0, 10.1, 0.1).round(1))
    made = summarise_histories(events, np.eye(3, dtype=bool)[np.arange(length) % 3], values, task)
    covariance = made.factor @ made.factor.T + np.diag(made.own)
    np.testing.assert_allclose(covariance, [[0.4, 0.3, 0], [0.3, 0.4, 0], [0, 0, 0.1]], atol=0.03)
    assert made.noise == pytest.approx(1, abs=0.02)


def test_only_training_users_are_summarised(dataset):
    with pytest.raises(LeakageError, match="a population's summary may only use training users"):
        summarise(dataset, small_task(dataset), dataset.users("test"))


def test_a_training_user_has_a_summary_without_them(dataset):
    task, users = small_task(dataset), dataset.users("train")
    summaries, part = summaries_without(dataset, task)
    assert len(summaries) == 5
    assert summaries[2].digest == summarise(dataset, task, users[part != 2]).digest
    assert summaries[2].users == (part != 2).sum()


def test_a_saved_summary_is_the_same(summary, tmp_path):
    shape = (2, len(summary.categories), 2)
    calibrated = summary.decided(
        Decisions(
            lengths=np.array([5.0, 50.0]),
            slope=np.ones((2, 2)),
            weight=np.zeros((2, 2, MARKS)),
            shift=np.zeros(shape),
            cutoff=np.full(shape, 0.2),
            worth=np.ones(shape),
            kept=np.ones((2, 2)),
        ),
        "recent",
    )
    for number, one in enumerate((summary, calibrated)):
        one.save(tmp_path / f"{number}.safetensors")
        read = PopulationSummary.load(tmp_path / f"{number}.safetensors")
        assert read.digest == one.digest
        assert read.categories == one.categories
        np.testing.assert_array_equal(read.factor, one.factor)
    np.testing.assert_array_equal(read.decisions.cutoff, calibrated.decisions.cutoff)
    assert (read.windows, read.decided(None).windows) == ("recent", None)
    assert summary.digest != calibrated.digest


def test_a_file_that_is_no_summary_is_refused(summary, tmp_path):
    path = tmp_path / "population.safetensors"
    with pytest.raises(DataError, match="the population's summary is missing; run palate summarise"):
        PopulationSummary.load(path)
    path.write_bytes(summary.to_bytes()[:-9])
    with pytest.raises(DataError, match=r"not a population's summary .* run palate summarise again"):
        PopulationSummary.load(path)
    replace(summary, means=summary.means[:-1]).save(path)
    with pytest.raises(DataError, match="means does not fit 8 categories"):
        PopulationSummary.load(path)
    replace(summary, own=summary.own * np.nan).save(path)
    with pytest.raises(DataError, match="not finite"):
        PopulationSummary.load(path)


@pytest.mark.parametrize(
    ("values", "step", "steps"),
    [
        ((1, 2, 3, 4, 5), 1, [1, 2, 3, 4, 5]),
        ((0.5, 1, 1.5), 0.5, [1, 2, 3]),
        ((2, 4, 6), 2, [1, 2, 3]),
        ((0, 0.25, 10), 0.25, [0, 1, 40]),
        ((1,), 1, [1]),
        ((0,), 1, [0]),
        ((-1, 1.5), 0.5, [-2, 3]),
    ],
)
def test_a_step_divides_every_rating(values, step, steps):
    assert float(rating_step(values)) == step
    assert rating_steps(values).tolist() == steps


def test_a_population_may_be_one_user_with_one_event():
    has = np.array([[True, False]])
    task = CategoryPreference(("A", "B"), "genre", TaskSettings())
    made = summarise_histories(histories([(0, 0)]), has, (1.0,), task)
    assert made.spread > 0
    assert made.noise > 0
    assert all(np.isfinite(part).all() for part in (made.means, made.share, made.factor, made.own))
