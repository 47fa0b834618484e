"""Evaluation from Python: valid arguments, and the resulting table."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from palate.errors import DataError, MismatchError, PalateError
from palate.evaluation.metrics import paired_difference, weighted_f1
from palate.evaluation.results import evaluate
from palate.model.model import load_model
from palate.training.train import train_run
from small_dataset import small_dataset
from tiny import tiny_recipe


class SaysNothing:
    name = "says nothing"

    def predict(self, user_index, windows):
        return [""] * len(windows)


@pytest.fixture(scope="module")
def run(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, folder / "cache", train={"max_steps": 4})
    return train_run(recipe, folder / "run")


@pytest.fixture(scope="module")
def references():
    return evaluate(["rule", "population", SaysNothing()], small_dataset(), windows=[5, 20])


def test_runs_models_references_and_own_predictors_stand_in_one_table(run, tiny_data):
    table = evaluate([run, load_model(run), "rule", SaysNothing()], tiny_data, bare=True)
    assert set(table.names) == {"run", "model", "rule", "says nothing"}
    assert table.windows == (10,)  # the recipe's
    assert table.score("run") == table.score("model")  # the same model on the same examples
    assert table.score("says nothing").value == 0
    beside = evaluate([run])
    references = {"counting", "rule", "shrinkage"}
    assert set(beside.names) == {"run", "run, another user's history", "run, view in a template", *references}


def test_a_table_holds_every_window_and_prints(references):
    assert references.windows == (5, 20)
    printed, markdown, latex = str(references), references.to_markdown(), references.to_latex()
    for name in references.names:
        assert name in printed
        assert name in markdown
        assert name in latex
    assert latex.count(r"\\") == 2 + len(references.names)  # the head, and the numbers of users
    frame = references.to_polars()
    assert len(frame) == 2 * len(references.names)
    (row,) = frame.filter(predictor="rule", window=20).to_dicts()
    score = references.score("rule", "liked.f1", 20)
    assert (row["liked_f1"], row["liked_f1_low"], row["liked_f1_high"]) == (
        score.value,
        score.low,
        score.high,
    )


def test_two_predictors_are_compared_on_the_same_users(references):
    difference = references.compare("rule", "population", window=20)
    rule, population = (references.score(name, window=20).value for name in ("rule", "population"))
    assert difference.value == pytest.approx(rule - population)
    assert difference.low < difference.value < difference.high
    same = references.compare("rule", "rule")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    other = references.compare("population", "rule", window=20)
    assert other.value == pytest.approx(-difference.value)


def test_the_paired_interval_is_scipys():
    rng = np.random.default_rng(0)
    truth = rng.random((80, 4)) < 0.4
    first, second = (truth ^ (rng.random(truth.shape) < wrong) for wrong in (0.1, 0.3))

    def difference(rows):
        return weighted_f1(truth[rows], first[rows]) - weighted_f1(truth[rows], second[rows])

    found = paired_difference(truth, first, second, seed=1)
    ours = bootstrap(
        (np.arange(80),), difference, vectorized=False, n_resamples=2_000, method="percentile", rng=rng
    ).confidence_interval
    assert found.value == pytest.approx(difference(np.arange(80)))
    assert (found.low, found.high) == pytest.approx((ours.low, ours.high), abs=0.02)


def test_what_cannot_be_evaluated_is_told(run, references):
    with pytest.raises(PalateError, match="dict cannot be evaluated; expected a run's folder"):
        evaluate([{}], small_dataset())
    with pytest.raises(DataError, match="or the name of a reference: population"):
        evaluate(["rul"], small_dataset())
    with pytest.raises(DataError, match="do not name a dataset"):
        evaluate(["rule"])
    with pytest.raises(MismatchError, match=r"a model was trained on raw, but the data is small"):
        evaluate([load_model(run)], small_dataset())
    for ask in (lambda: references.score("nobody"), lambda: references.compare("rule", "nobody")):
        with pytest.raises(PalateError, match="no predictor 'nobody'; there are 'rule'"):
            ask()
    with pytest.raises(PalateError, match="no metric 'loved'"):
        references.score("rule", "loved")
    with pytest.raises(PalateError, match="no window 7; there are 5, 20"):
        references.score("rule", window=7)


def test_a_model_learns_the_rule_of_its_recipe_and_another_one_is_a_warning(
    tiny_data, tiny_sentence_encoder, tmp_path
):
    steps = {"max_steps": 2, "eval_steps": 2}
    recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", train=steps)
    task = recipe.task.model_copy(update={"rule": "own-mean"})
    recipe = recipe.model_copy(update={"task": task})
    run = train_run(recipe, tmp_path / "run")
    (own,) = evaluate([run], bare=True, windows=10).evaluations
    assert own.label_rule.startswith("own-mean (liked: mean rating over ")
    assert not [line for line in own.warnings if "label rule" in line]
    (other,) = evaluate([run], bare=True, windows=10, rule="thresholds").evaluations
    assert other.label_rule.startswith("thresholds (")
    assert (
        "run: it was trained with the label rule 'own-mean' and is scored with 'thresholds'" in other.warnings
    )
