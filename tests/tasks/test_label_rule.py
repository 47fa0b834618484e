"""The label rule against a direct implementation, per user and category."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import TaskSettings
from palate.errors import RecipeError
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.statistics import CategoryStatistics
from palate.words import plural

NAMES = ("Western", "Action", "Drama", "Comedy", "War")  # not in order: ties go by name, not by place


def task(names=NAMES, **settings):
    return CategoryPreference(names, "genre", TaskSettings(**settings))


def statistics(*users):
    """One user is {name: ratings}."""
    count = [[len(user.get(name, ())) for name in NAMES] for user in users]
    total = [[sum(user.get(name, ())) for name in NAMES] for user in users]
    return CategoryStatistics(
        count=np.array(count, dtype=np.int64).reshape(-1, len(NAMES)),
        total=np.array(total, dtype=np.float64).reshape(-1, len(NAMES)),
        length=np.array([sum(row) for row in count], dtype=np.int64),
        whole=np.array([sum(row) for row in total], dtype=np.float64),
    )


def named(ranked):
    return [[NAMES[index] for index in row if index >= 0] for row in ranked]


def plain_rule(user, settings):
    means = {
        name: sum(ratings) / len(ratings)
        for name, ratings in user.items()
        if len(ratings) >= settings.min_count
    }
    liked = sorted(
        (-mean, -len(user[name]), name) for name, mean in means.items() if mean > settings.like_above
    )
    disliked = sorted(
        (mean, -len(user[name]), name) for name, mean in means.items() if mean < settings.dislike_below
    )
    most = settings.max_labels
    return [name for *_, name in liked[:most]], [name for *_, name in disliked[:most]]


RATINGS = st.lists(st.sampled_from([0.5, 1, 2.5, 3, 3.5, 4, 5]), max_size=6)
USERS = st.lists(st.dictionaries(st.sampled_from(NAMES), RATINGS), max_size=5)


@given(USERS, st.integers(1, 4), st.integers(1, 7))
def test_every_user_gets_what_the_plain_rule_says(users, min_count, max_labels):
    settings = TaskSettings(like_above=3.5, dislike_below=3.0, min_count=min_count, max_labels=max_labels)
    found = task(min_count=min_count, max_labels=max_labels).labels(statistics(*users))
    assert found.liked.shape == found.disliked.shape == (len(users), max_labels)
    expected = [plain_rule(user, settings) for user in users]
    assert list(zip(named(found.liked), named(found.disliked), strict=True)) == expected


def test_the_thresholds_themselves_carry_no_label():
    found = task().labels(statistics({"War": [3.5] * 3, "Drama": [3.0] * 4, "Action": [4] * 2}))
    assert (found.liked < 0).all()
    assert (found.disliked < 0).all()


def test_ties_go_to_the_more_frequent_and_then_to_the_first_by_name():
    user = {"Western": [4] * 3, "Action": [4] * 3, "War": [4] * 5, "Comedy": [5, 3, 4], "Drama": [1] * 3}
    found = task().labels(statistics(user))
    assert named(found.liked) == [["War", "Action", "Comedy"]]
    assert named(found.disliked) == [["Drama"]]


def test_thresholds_that_overlap_are_refused():
    with pytest.raises(RecipeError, match=r"task.like_above is 2, below task.dislike_below = 3, .* at least"):
        task(like_above=2.0)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("genre", "genres"), ("category", "categories"), ("class", "classes"), ("day", "days")],
)
def test_the_instruction_names_the_field(noun, expected):
    assert plural(noun) == expected
    wanted = f"Which {expected} does this user like and dislike?"
    assert CategoryPreference(NAMES, noun, TaskSettings()).instruction == wanted
