"""Calibration of probabilities, and abstention below a promised F1."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score
from typer.testing import CliRunner

from palate.cli import app
from palate.data.label_rules import with_label_statistics
from palate.errors import PalateError
from palate.evaluation.calibration import BINS, calibration_of, kept_promise
from palate.evaluation.compare import Options
from palate.evaluation.results import evaluate
from palate.evaluation.write import score_windows
from palate.tasks.targets import answer_f1, expected_f1
from palate.tasks.verbalizer import NO_ANSWER
from small_dataset import small_dataset


@pytest.fixture(scope="module")
def dataset():
    return with_label_statistics(small_dataset())


class Sure:
    """Names what it is told to like, with given probabilities."""

    name = "sure"

    def __init__(self, chances, text="The user likes War and doesn't like any genre"):
        self.chances, self.text = chances, text

    def predict(self, user_index, windows):
        return [self.text] * len(windows)

    def probabilities(self, user_index, windows):
        return np.broadcast_to(self.chances, (len(windows), *np.shape(self.chances)[-2:]))


class Varied(Sure):
    name = "varied"

    def probabilities(self, user_index, windows):
        return np.resize(self.chances, (len(windows), *np.shape(self.chances)[1:]))


def test_the_error_is_the_distance_from_the_frequency_in_bins_of_equal_size():
    rng = np.random.default_rng(0)
    chances = rng.random((200, 6, 2))
    truth = rng.random(chances.shape) < chances**2
    frequency = truth.mean(axis=0)
    found = calibration_of(chances, truth, frequency).liked
    p, y = chances[..., 0].ravel(), truth[..., 0].ravel()
    order = np.argsort(p)
    expected, parts = 0.0, np.array_split(order, BINS)
    for part in parts:
        expected += len(part) / len(p) * abs(p[part].mean() - y[part].mean())
    assert found.error == pytest.approx(expected)
    assert [one.number for one in found.bins] == [len(part) for part in parts]
    assert found.brier == pytest.approx(brier_score_loss(y, p))
    population = np.broadcast_to(frequency[:, 0], truth[..., 0].shape).ravel()
    assert found.population_brier == pytest.approx(brier_score_loss(y, population))
    assert found.skill == pytest.approx(1 - found.brier / found.population_brier)


def test_probabilities_that_come_true_have_a_small_error_and_certain_ones_all_skill():
    rng = np.random.default_rng(1)
    chances = rng.random((4000, 3, 2))
    truth = rng.random(chances.shape) < chances
    right = calibration_of(chances, truth, truth.mean(axis=0))
    assert right.liked.error < 0.02
    assert 0 < right.disliked.skill < 1
    certain = calibration_of(truth.astype(float), truth, truth.mean(axis=0))
    assert (certain.liked.error, certain.liked.brier, certain.liked.skill) == (0, 0, 1)
    constant = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert calibration_of(constant, truth, truth.mean(axis=0)).liked.skill == pytest.approx(0)


@given(
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    named=st.integers(0, 31),
    most=st.integers(1, 3),
)
def test_the_expected_f1_is_that_of_all_cases(chances, named, most):
    """Counted case by case; of more true labels than a user may have, so many are told."""
    said = np.array([bool(named >> at & 1) for at in range(len(chances))])
    expected = 0.0
    for truth in itertools.product([False, True], repeat=len(chances)):
        true = np.array(truth)
        weight = np.prod(np.where(true, chances, 1 - np.array(chances)))
        both = said.sum() + min(true.sum(), most)
        expected += weight * (2 * (true & said).sum() / both if both else 1.0)
    assert expected_f1(np.array([chances]), said[None], most)[0] == pytest.approx(expected)


def test_the_f1_of_an_answer_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, named = rng.random((50, 6)) < 0.3, rng.random((50, 6)) < 0.3
    expected = [f1_score(one, other, zero_division=1.0) for one, other in zip(truth, named, strict=True)]
    assert answer_f1(truth, named) == pytest.approx(expected)


def test_a_promise_is_about_those_who_are_answered():
    truth = np.array([[True, False], [True, False], [False, True]])
    named = np.array([[True, False], [False, True], [False, True]])
    kept = kept_promise(0.5, np.array([0.9, 0.4, 0.5]), truth, named)
    assert (kept.answered, kept.coverage) == (2, pytest.approx(2 / 3))
    assert (kept.promised, kept.reached) == (pytest.approx(0.7), 1.0)
    nobody = kept_promise(0.95, np.array([0.9, 0.4, 0.5]), truth, named)
    assert (nobody.coverage, nobody.promised, nobody.reached) == (0, None, None)


def test_answers_below_the_promise_say_that_not_enough_is_known(dataset):
    war = list(dataset.categories).index("War")
    chances = np.full((2, 8, 2), 0.01)
    chances[0, war, 0] = 0.9  # every second user
    table = evaluate([Varied(chances), "rule"], dataset, windows=10, window_kind="random", promise=0.5)
    (evaluation,) = table.evaluations
    rule, varied = evaluation.predictors
    answers = [line.answer for line in evaluation.predictions if line.predictor == "varied"]
    likes_war = "The user likes War and doesn't like any genre"
    assert answers == [NO_ANSWER if at % 2 else likes_war for at in range(len(answers))]
    assert varied.unreadable == 0
    assert varied.promise.coverage == pytest.approx(0.5, abs=0.05)
    assert varied.promise.promised == pytest.approx(
        expected_f1(chances[:1, :, 0], chances[:1, :, 0] > 0.5, 3)[0]
    )
    truth = [line.truth_liked for line in evaluation.predictions if line.predictor == "varied"][::2]
    reached = np.mean([2 * ("War" in one) / (1 + len(one)) for one in truth])
    assert varied.promise.reached == pytest.approx(reached)
    assert rule.promise is None  # without probabilities, everybody is answered


def test_without_a_promise_everybody_is_answered(dataset):
    table = evaluate([Sure(np.full((8, 2), 0.01))], dataset, windows=10)
    assert table.evaluations[0].predictors[0].promise is None
    assert table.evaluations[0].predictors[0].calibration is None
    with pytest.raises(PalateError, match=r"the promised F1 is 1.5; expected a number from 0 to 1"):
        Options(promise=1.5)


@pytest.mark.parametrize("truth", ["labels", "unseen"])
def test_the_population_is_calibrated_and_has_no_skill_over_itself(dataset, truth):
    options = Options(data=dataset, window_kind="random", calibration=True, truths=(truth,))
    for evaluation in score_windows(["population", "rule"], options, [5, 20]).evaluations:
        population, rule = evaluation.predictors
        assert population.calibration.liked.error < 0.12
        assert abs(population.calibration.liked.skill) < 0.1
        assert rule.calibration is None


def palate(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_shows_and_writes_calibration_and_promises(tiny_data, tmp_path):
    arguments = [
        "population",
        "rule",
        "--data",
        tiny_data.path,
        "--window",
        "5,10",
        "--calibration",
        "--promise",
        "0.1",
    ]
    shown = palate(*arguments, "--out", tmp_path / "x")
    assert shown.exit_code == 0, shown.stderr
    assert "expected calibration error" in shown.stdout
    assert "Coverage is the share" in " ".join(shown.stdout.split())
    names = {path.name for path in (tmp_path / "x").iterdir()}
    assert names == {"window-5", "window-10", "windows.md", "calibration.html"}
    page = (tmp_path / "x" / "calibration.html").read_text()
    assert page.count("<svg") == 2 * 2 * 2  # windows, halves, cuts
    assert "https://" not in page
    assert "expected calibration error" in (tmp_path / "x" / "windows.md").read_text()
    document = json.loads(palate(*arguments, "--json").stdout)
    for evaluation in document["evaluations"]:
        population, rule = evaluation["predictors"]
        assert set(population["calibration"]) == {"liked", "disliked"}
        assert population["promise"]["least"] == 0.1
        assert rule["calibration"] is None
