"""Decided categories: by score and cutoff, likeliest first, none in both halves."""

import numpy as np

from palate.tasks.decisions import AS_EXPECTED, MARKS, Decisions, decide


def decisions(cutoff=0.2, worth=1.0, lengths=(1.0,), labels=3):
    shape = (len(lengths), labels, 2)
    return Decisions(
        lengths=np.array(lengths),
        slope=np.ones((len(lengths), 2)),
        weight=np.zeros((len(lengths), 2, MARKS)),
        shift=np.zeros(shape),
        cutoff=np.broadcast_to(np.asarray(cutoff, float).reshape(-1, 1, 1), shape).copy(),
        worth=np.broadcast_to(worth, shape).copy(),
        kept=np.broadcast_to(AS_EXPECTED, (len(lengths), 2)).copy(),
    )


def test_labels_above_the_cutoff_are_named_likeliest_first():
    chances = np.array([[[0.3, 0.0], [0.9, 0.0], [0.1, 0.0]]])
    answer = decisions().decide(chances, np.array([20]), 3)
    assert answer.liked.tolist() == [[1, 0, -1]]
    assert answer.disliked.tolist() == [[-1, -1, -1]]


def test_a_category_stands_in_one_half():
    chances = np.array([[[0.5, 0.6], [0.6, 0.5], [0.4, 0.4]]])
    answer = decisions().decide(chances, np.array([20]), 3)
    assert answer.liked.tolist() == [[1, 2, -1]]
    assert answer.disliked.tolist() == [[0, -1, -1]]


def test_a_rare_label_that_is_worth_more_comes_before_a_likelier_one():
    worth = np.array([1.0, 1.0, 5.0])[:, None]
    chances = np.array([[[0.6, 0.0], [0.5, 0.0], [0.4, 0.0]]])
    answer = decisions(worth=worth).decide(chances, np.array([20]), 2)
    assert answer.liked.tolist() == [[0, 2]]


def test_cutoffs_are_interpolated_between_window_lengths():
    calibrated = decisions(cutoff=[0.2, 0.6], lengths=(10.0, 1000.0))
    chances = np.full((3, 3, 2), 0.0)
    chances[:, 0, 0] = 0.41
    answer = calibrated.decide(chances, np.array([10, 100, 120]), 3)  # the cutoff at 100 is 0.4, at 120 0.416
    assert answer.liked[:, 0].tolist() == [0, 0, -1]


def test_more_labels_may_be_asked_for_than_there_are():
    answer = decisions(labels=2).decide(np.full((1, 2, 2), [0.9, 0.0]), np.array([1]), 3)
    assert answer.liked.tolist() == [[0, 1, -1]]


def test_log_odds_are_calibrated_before_a_decision():
    calibrated = decisions(cutoff=0.5)
    calibrated.slope[0] = (2.0, 1.0)
    logits = np.array([[[1.0, 1.0], [-9.0, -9.0], [-9.0, -9.0]]])
    answer, chances = decide(logits, np.zeros((1, 3, 2, MARKS)), np.array([5]), calibrated, 3)
    np.testing.assert_allclose(chances[0, 0], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))])
    assert answer.liked.tolist() == [[0, -1, -1]]


def test_what_the_rule_names_by_the_window_adds_to_the_log_odds_of_its_half():
    calibrated = decisions(cutoff=0.5)
    calibrated.weight[0, 1] = (2.0, 0.5, 0.0, 0.0)
    marks = np.zeros((1, 3, 2, MARKS))
    marks[0, 1] = (1.0, 0.4, 0.3, 0.0)
    chances = calibrated.probabilities(np.full((1, 3, 2), -1.0), marks, np.array([5]))
    usual = 1 / (1 + np.exp(1))
    np.testing.assert_allclose(chances[0, :, 0], usual)
    np.testing.assert_allclose(chances[0, :, 1], [usual, 1 / (1 + np.exp(-1.2)), usual])


def test_without_calibration_rare_labels_are_named_sooner_and_short_windows_name_more():
    bare = Decisions.bare(np.array([0.5, 0.02]), np.array([0.1, 0.1]), 60)
    assert (bare.cutoff[:, 1, 0] < bare.cutoff[:, 0, 0]).all()
    assert (np.diff(bare.cutoff[..., 0], axis=0) > 0).all()
    assert ((bare.cutoff > 0) & (bare.cutoff < 0.5)).all()
    answer = bare.decide(np.array([[[0.4, 0.0], [0.38, 0.0]]]), np.array([20]), 1)
    assert answer.liked.tolist() == [[1]]
