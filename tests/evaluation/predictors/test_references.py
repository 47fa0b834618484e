"""References: their inputs and predictions."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.registry import predictors as registered
from palate.data.windows import draw_windows, make_examples
from palate.errors import LeakageError, PalateError, RecipeError
from palate.evaluation.calibration import calibration_of
from palate.evaluation.metrics import weighted_f1
from palate.evaluation.predictors.controls import AnotherUsersHistory, NoHistory, ShuffledRatings
from palate.evaluation.predictors.references import references
from palate.evaluation.predictors.shrinkage import Shrinkage
from palate.schema import Interactions, membership
from palate.tasks.statistics import category_statistics
from small_dataset import CATEGORIES, small_dataset, small_task


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def task(dataset):
    return small_task(dataset)


def reference(name, dataset, task, kind="random"):
    return references(dataset, task, [name], kind)[0]


def windows(dataset, users, size=5, seed=0):
    return draw_windows(dataset.interactions, users, size, "random", np.random.default_rng(seed))


def liked_f1(predictor, examples, task):
    labels = len(task.label_names)
    answers = task.parse(predictor.predict(examples.user_index, examples.windows))
    return weighted_f1(membership(examples.truth.liked, labels), membership(answers.liked, labels))


def rated_afresh(dataset, users):
    """The same dataset, with other ratings for these users."""
    old = dataset.interactions
    owner = np.repeat(np.arange(len(old.lengths)), old.lengths)
    other = np.random.default_rng(7).integers(0, 10, len(old)).astype(np.uint8)
    rating_index = np.where(np.isin(owner, users), other, old.rating_index)
    return replace(
        dataset, interactions=Interactions(old.offsets, old.item_index, rating_index, old.timestamp)
    )


@pytest.mark.parametrize("name", registered.kinds)
def test_every_reference_answers_each_user_in_the_words_of_the_task(name, dataset, task):
    users = dataset.users("test")
    answers = reference(name, dataset, task).predict(users, windows(dataset, users))
    assert len(answers) == len(users)
    assert task.target_texts(task.parse(answers)) == answers


@pytest.mark.parametrize("name", registered.kinds)
def test_no_reference_has_seen_the_ratings_of_other_users_than_training_ones(name, dataset, task):
    users = dataset.users("test")
    shown = windows(dataset, users)
    held_out = np.concatenate([users, dataset.users("dev")])
    answers = reference(name, dataset, task).predict(users, shown)
    assert reference(name, rated_afresh(dataset, held_out), task).predict(users, shown) == answers


def test_counting_names_the_most_frequent_categories_of_the_full_history(dataset, task):
    users = dataset.users("test")
    answers = reference("counting", dataset, task).predict(users, windows(dataset, users, size=1))
    count = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values).count
    for user, answer in zip(users, answers, strict=True):
        most = sorted(range(len(CATEGORIES)), key=lambda index: (-count[user, index], CATEGORIES[index]))[:3]
        named = ", ".join(CATEGORIES[index] for index in most)
        assert answer == f"The user likes {named} and doesn't like any genre"


def test_the_rule_is_right_where_the_window_shows_everything(dataset, task):
    examples = make_examples(dataset, task, "test", 60, "recent", seed=0)
    for name in ("rule", "shrinkage", "boosting"):
        answers = reference(name, dataset, task).predict(examples.user_index, examples.windows)
        shorter = examples.windows.length < examples.windows.item_index.shape[1]
        expected = np.array(task.target_texts(examples.truth))
        assert shorter.sum() > 30
        np.testing.assert_array_equal(np.array(answers)[shorter], expected[shorter])


def test_the_rule_looks_at_the_window_alone(dataset, task):
    users = dataset.users("test")
    shown = windows(dataset, users, size=20)
    rule = reference("rule", dataset, task)
    assert rule.predict(users[::-1], shown) == rule.predict(users, shown)


@pytest.fixture
def whole_boosting(monkeypatch):
    """Boosting learns with all its trees, from a quarter of the windows that it has outside the tests."""
    for name, value in {"MOST_WINDOWS": 4_000, "TREES": 150}.items():
        monkeypatch.setattr(f"palate.evaluation.predictors.boosting.{name}", value)


def test_boosting_learns_more_than_the_labels_frequencies(dataset, task, whole_boosting):
    examples = make_examples(dataset, task, "test", 15, "random", seed=0)
    population = liked_f1(reference("population", dataset, task), examples, task)
    assert liked_f1(reference("boosting", dataset, task), examples, task) > population + 0.05


@pytest.mark.parametrize("size", [5, 10])
def test_shrinkage_beats_the_rule_and_the_population_on_small_windows(size, dataset, task):
    examples = make_examples(dataset, task, "test", size, "random", seed=0)
    score = {
        name: liked_f1(reference(name, dataset, task), examples, task)
        for name in ("population", "rule", "shrinkage")
    }
    assert score["shrinkage"] > score["rule"] + 0.1
    assert score["shrinkage"] > score["population"]


def test_shrinkage_refuses_to_be_fitted_on_test_users(dataset, task):
    users = np.concatenate([dataset.users("train"), dataset.users("test")[:1]])
    with pytest.raises(
        LeakageError, match=r"the shrinkage estimator may only use training users, but 1 of 121"
    ):
        Shrinkage(dataset, task, users=users)


def test_the_population_is_one_answer_for_everybody(dataset, task):
    users = dataset.users("test")
    answers = reference("population", dataset, task).predict(users, windows(dataset, users))
    assert len(set(answers)) == 1
    assert "War" in answers[0].split("doesn't")[0]  # the category that the made-up tastes lean to


class Asked:
    """Remembers what it was shown."""

    name = "asked"

    def predict(self, user_index, windows):
        self.user_index, self.windows = user_index, windows
        return ["The user likes War"] * len(windows)


def test_the_control_shows_each_user_the_history_of_another(dataset):
    users = dataset.users("test")
    shown = windows(dataset, users)
    asked = Asked()
    control = AnotherUsersHistory(asked, seed=3)
    assert control.name == "asked, another user's history"
    assert len(control.predict(users, shown)) == len(users)
    assert (asked.user_index != users).all()
    assert sorted(asked.user_index) == sorted(users)
    row_of = {user: row for row, user in enumerate(users)}
    rows = np.array([row_of[user] for user in asked.user_index])
    np.testing.assert_array_equal(asked.windows.item_index, shown.item_index[rows])
    first = asked.user_index
    AnotherUsersHistory(asked, seed=3).predict(users, shown)
    np.testing.assert_array_equal(asked.user_index, first)


@pytest.mark.parametrize("rows", [[0], [1, 1, 2]])
def test_the_control_needs_different_users(rows, dataset):
    users = dataset.users("test")[rows]
    with pytest.raises(PalateError, match=r"needs at least 2 distinct users"):
        AnotherUsersHistory(Asked()).predict(users, windows(dataset, users))


def test_no_history_shows_nobody_anything(dataset):
    users, asked = dataset.users("test"), Asked()
    assert len(NoHistory(asked).predict(users, windows(dataset, users))) == len(users)
    assert not asked.windows.mask.any()


@given(size=st.integers(1, 70), seed=st.integers(0, 5))
def test_shuffled_ratings_keep_the_items_and_the_ratings_of_each_window(dataset, size, seed):
    users, asked = dataset.users("test"), Asked()
    shown = windows(dataset, users, size, seed)
    ShuffledRatings(asked, seed).predict(users, shown)
    np.testing.assert_array_equal(asked.windows.item_index, shown.item_index)
    np.testing.assert_array_equal(asked.windows.length, shown.length)
    for row, length in enumerate(shown.length):
        of_row = asked.windows.rating_index[row, :length], shown.rating_index[row, :length]
        assert sorted(of_row[0]) == sorted(of_row[1])
    if size > 3:
        assert (asked.windows.rating_index != shown.rating_index).any()


def test_an_unknown_reference_is_told_with_a_suggestion(dataset, task):
    known = "population, floor, counting, rule, shrinkage, boosting"
    message = f"there is no reference 'Shrinkage'; registered are {known}; did you mean 'shrinkage'?"
    with pytest.raises(RecipeError, match=re.escape(message)):
        references(dataset, task, ["rule", "Shrinkage"])
    with pytest.raises(RecipeError, match=r"'svd'; registered are [a-z, ]+; install the package"):
        references(dataset, task, ["svd"])


def test_boosting_tells_probabilities_of_the_truth_that_it_learned(dataset, task, whole_boosting):
    boosting = reference("boosting", dataset, task).with_truth("unseen")
    examples = make_examples(dataset, task, "test", 15, "random", 0, "partly", "unseen")
    chances = boosting.probabilities(examples.user_index, examples.windows)
    labels = len(task.label_names)
    true = np.stack(
        [membership(half, labels) for half in (examples.truth.liked, examples.truth.disliked)], -1
    )
    assert chances.shape == true.shape
    assert 0 <= chances.min() <= chances.max() <= 1
    found = calibration_of(chances, true, true.mean(axis=0))
    assert found.liked.error < 0.12
    assert abs(chances.mean() - true.mean()) < 0.05
    assert chances[true].mean() > chances[~true].mean() + 0.1


def test_the_floor_draws_by_frequency_and_is_above_the_most_common_labels_for_everybody(dataset, task):
    """Weighted F1 rewards naming rare labels now and then: one answer for everybody is too low a floor."""
    floor, population = (reference(name, dataset, task) for name in ("floor", "population"))
    drawn = [
        liked_f1(floor, make_examples(dataset, task, "train", 5, "random", seed), task) for seed in range(8)
    ]
    examples = make_examples(dataset, task, "train", 5, "random", 0)
    assert np.mean(drawn) > liked_f1(population, examples, task)
    assert all(power in np.arange(0, 4.01, 0.25) for power in floor.powers)


def test_the_floor_says_the_same_of_a_user_and_window_and_not_the_same_of_everybody(dataset, task):
    floor, users = reference("floor", dataset, task), dataset.users("test")
    shown = windows(dataset, users)
    said = floor.predict(users, shown)
    assert [floor.predict(users[[row]], shown[[row]])[0] for row in range(len(users))] == said
    assert len(set(said)) > len(said) // 2
    read = task.parse(said)
    assert (read.liked >= 0).all()  # three labels each
    overlap = read.liked[:, :, None] == read.disliked[:, None, :]
    assert not (overlap & (read.disliked >= 0)[:, None, :]).any()


def test_the_floor_draws_alike_where_labels_are_alike_frequent(dataset, task):
    floor, users = reference("floor", dataset, task), dataset.users("train")
    floor.powers = (0.0, 0.0)
    shown = [windows(dataset, users, seed=seed) for seed in range(20)]
    liked = np.concatenate([task.parse(floor.predict(users, some)).liked for some in shown])
    share = np.bincount(liked.ravel(), minlength=len(CATEGORIES)) / len(liked)
    np.testing.assert_allclose(share, 3 / len(CATEGORIES), atol=0.04)
