"""Answers that maximise expected F1: against all alternatives, and their constraints."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from palate.tasks.targets import best_answers

EVERY = np.full((2, 5), 0.2)
chances = hypothesis_numpy.arrays(np.float64, (4, 5, 2), elements=st.floats(0.0, 1.0, width=32))


def named(ranked):
    return [[label for label in row if label >= 0] for row in ranked.tolist()]


def promised(chances, answers):
    """The F1 in expectation, over all users' labels together, of naming these pairs of user and label."""
    hits = sum(chances[user, label] for user, labels in enumerate(answers) for label in labels)
    return 2 * hits / (chances.sum() + sum(map(len, answers)))


@given(chances)
@settings(max_examples=100, deadline=None)
def test_an_answer_names_at_most_as_many_as_are_asked_for_and_nothing_in_both_halves(chances):
    answers = best_answers(chances, EVERY, 3)
    for liked, disliked in zip(named(answers.liked), named(answers.disliked), strict=True):
        assert len(liked) == len(set(liked)) <= 3
        assert len(disliked) == len(set(disliked)) <= 3
        assert not set(liked) & set(disliked)
    assert answers.liked.shape == answers.disliked.shape == (4, 3)


@given(hypothesis_numpy.arrays(np.float64, (2, 5), elements=st.floats(0.01, 1.0)))
@settings(max_examples=50, deadline=None)
def test_no_other_answers_of_two_users_promise_more(liked):
    chances = np.stack([liked, np.zeros_like(liked)], axis=-1)
    found = promised(liked, named(best_answers(chances, EVERY, 2).liked))
    answers = [list(one) for size in range(3) for one in combinations(range(5), size)]
    best = max(promised(liked, [one, other]) for one in answers for other in answers)
    assert found >= best - 1e-6


def test_the_likeliest_label_stands_first_and_padding_last():
    chances = np.zeros((1, 5, 2))
    chances[0, :, 0] = [0.1, 0.9, 0.01, 0.7, 0.02]
    answers = best_answers(chances, EVERY, 3)
    assert answers.liked.tolist() == [[1, 3, -1]]
    assert answers.disliked.tolist() == [[-1, -1, -1]]


def test_a_rare_label_is_named_before_a_common_one_of_the_same_chance():
    chances = np.zeros((1, 2, 2))
    chances[..., 0] = 0.5
    answers = best_answers(chances, np.array([[0.6, 0.05], [0.1, 0.1]]), 1)
    assert answers.liked.tolist() == [[1]]


@pytest.mark.parametrize("labels", [1, 2])
def test_fewer_labels_than_may_be_named(labels):
    chances = np.full((3, labels, 2), 0.4)
    assert best_answers(chances, np.full((2, labels), 0.4), 3).liked.shape == (3, 3)
