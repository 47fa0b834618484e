"""Scores of questions: the same questions for all predictors, and correct scores."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from palate.cli.app import app
from palate.evaluation.evaluate import Setting
from palate.evaluation.metrics import area_under_curve
from palate.evaluation.questions import QuestionEvaluation, questions_of_run, score_questions
from palate.model.model import load_model
from palate.tasks import load_task
from palate.tasks.wordings import WORDINGS
from palate.training.train import train_run
from tiny import tiny_recipe, unbound_model

MIXTURE = {"preference": 0.4, "yes-no": 0.2, "pair": 0.2, "rating": 0.2}


@pytest.fixture(scope="module")
def run(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    place = tmp_path_factory.mktemp("questions")
    recipe = tiny_recipe(
        tiny_data.path,
        tiny_sentence_encoder,
        place / "cache",
        train={"questions": MIXTURE, "auxiliary_weight": 1.0, "answers": "view"},
    )
    return train_run(recipe, place / "run")


def test_a_mixture_is_trained_and_every_wording_is_asked(run, tiny_data):
    evaluation = questions_of_run(run)
    asked = {(row.kind, row.wording): row.held_out for row in evaluation.rows if row.predictor == "model"}
    assert asked == {
        (kind, wording): wording in WORDINGS[kind].held_out
        for kind in MIXTURE
        for wording in WORDINGS[kind].all
    }
    by_name = {(row.kind, row.predictor): row.scores for row in evaluation.rows}
    assert by_name["rating", "item mean"]["rmse"] > by_name["rating", "item mean"]["mae"] > 0
    assert by_name["yes-no", "window's means"]["auc"] > by_name["yes-no", "population"]["auc"]
    assert by_name["pair", "window's means"]["accuracy"] > 0.5
    assert by_name["preference", "rule"]["liked_f1"] > 0.3
    others = {row.kind for row in evaluation.rows if row.predictor == "another user's history"}
    assert others == MIXTURE.keys()
    assert questions_of_run(run) == evaluation


def test_the_windows_of_a_kind_are_encoded_once_for_all_wordings(run, tiny_data, monkeypatch):
    model, read, told = load_model(run, device="cpu"), [], []
    users = len(tiny_data.users("test"))
    monkeypatch.setattr(
        model, "read", lambda windows: read.append(len(windows)) or type(model).read(model, windows)
    )
    task = load_task(model.settings.task, tiny_data.info)
    setting = Setting(split="test", window=10, kind="random", seed=0)
    kinds = ["preference", "rating"]
    score_questions(
        model, tiny_data, task, setting, kinds, batch_size=2, progress=lambda *counts: told.append(counts)
    )
    assert sum(read) == len(kinds) * 2 * users  # once with the user's own history, once with another's
    total = sum(len(WORDINGS[kind].all) + 1 for kind in kinds)
    assert told == [(done + 1, total) for done in range(total)]


def test_the_command_writes_the_scores_beside_the_run(run):
    result = CliRunner().invoke(app, ["questions", str(run), "--kind", "rating", "--users", "4"])
    assert result.exit_code == 0, result.output
    assert "RMSE" in result.output
    written = QuestionEvaluation.model_validate(json.loads((run / "questions.json").read_text()))
    assert {row.kind for row in written.rows} == {"rating"}
    assert written.users == 4


def test_the_quick_questions_are_two_of_the_wordings_with_the_same_scores(run):
    whole, quick = (questions_of_run(run, ["yes-no"], max_users=5, quick=quick) for quick in (False, True))
    wordings = {WORDINGS["yes-no"].trained[0], WORDINGS["yes-no"].held_out[0]}
    control = "another user's history"
    assert quick.rows == tuple(
        row for row in whole.rows if row.wording in wordings and row.predictor != control
    )


def test_a_kind_that_does_not_exist_is_named_with_those_that_do(run):
    result = CliRunner().invoke(app, ["questions", str(run), "--kind", "colour"])
    assert result.exit_code == 2
    assert "'colour'" in result.output
    assert "yes-no" in result.output


def test_the_area_under_the_curve_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, score = rng.random(200) < 0.3, rng.integers(8, size=200) / 8
    assert area_under_curve(truth, score) == pytest.approx(roc_auc_score(truth, score))
    assert math.isnan(area_under_curve(np.ones(3, dtype=bool), np.zeros(3)))


def test_beside_the_language_model_stands_what_the_user_encoder_decides_without_it(tiny_data):
    model = unbound_model().bind(tiny_data)
    setting = Setting(split="train", window=20, kind="random", seed=0)
    task = load_task(model.settings.task, tiny_data.info)
    found = score_questions(model, tiny_data, task, setting, ["yes-no", "pair", "rating"])
    view = {row.kind: row.scores for row in found.rows if row.predictor == "encoder's view"}
    assert view.keys() == {"yes-no", "pair"}
    assert view["yes-no"]["auc"] > 0.6
    assert view["pair"]["accuracy"] > 0.6
