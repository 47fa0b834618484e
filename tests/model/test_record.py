"""The training record of a model, and its warnings."""

import pytest

from palate.model.record import DevScores, TrainingRecord


def record(ended_by="steps", steps=2400, **dev):
    scores = {"users": 94, "f1": 0.7, "another_user": 0.2, "population": 0.16, "unreadable": 0.0, **dev}
    return TrainingRecord(
        steps=steps,
        max_steps=2400,
        ended_by=ended_by,
        max_minutes=4 if ended_by == "minutes" else None,
        best_step=steps,
        threads=1,
        train_users=755,
        learning_rate=1.5e-3,
        longest_window=80,
        dev=DevScores(**scores),
    )


def test_nothing_is_said_of_a_training_that_went_well():
    assert record().warnings() == ()
    assert record(ended_by="patience", steps=900).warnings() == ()


def test_a_training_that_the_clock_cut_short_says_how_far_it_came():
    (warning,) = record(ended_by="minutes", steps=605).warnings()
    assert warning.startswith("train.max_minutes=4 ended the training after 605 of 2,400 steps")
    assert "train.max_minutes=null" in warning


@pytest.mark.parametrize(
    ("dev", "said"),
    [
        (
            {"f1": 0.1},
            "is 0.100, no better than the answer that suits most users (0.160) and its own answers",
        ),
        (
            {"f1": 0.16, "another_user": 0.1},
            "is 0.160, no better than the answer that suits most users (0.160);",
        ),
        ({"f1": 0.18}, "is 0.180, no better than its own answers to another user's history (0.200);"),
        (
            {"f1": 0.1, "another_user": None},
            "is 0.100, no better than the answer that suits most users (0.160);",
        ),
        ({"f1": 0.0, "unreadable": 1.0}, "none of its answers about 94 dev users contains a label;"),
    ],
)
def test_a_model_that_does_not_beat_what_knows_nothing_of_the_user_says_what_to_try(dev, said):
    (warning,) = record(**dev).warnings()
    assert said in warning
    for key in (
        "train.max_steps (it had 2,400)",
        "train.learning_rate (0.0015)",
        "windows.longest (80)",
        "755",
    ):
        assert key in warning


def test_both_are_said_of_a_training_that_was_cut_before_it_learned():
    assert len(record(ended_by="minutes", steps=5, f1=0.0, unreadable=1.0).warnings()) == 2
