"""Experiment trackers of transformers: logged values, and unusable trackers."""

import json
import sys

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from palate.errors import MissingExtraError, RecipeError
from palate.system.extras import install_line
from palate.training import trackers
from palate.training.train import train_run
from tiny import tiny_recipe


@pytest.fixture
def recipe(tiny_data, tiny_sentence_encoder, tmp_path):
    def make(*names):
        train = {"max_steps": 4, "eval_steps": 2, "report_to": names}
        return tiny_recipe(tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", train=train)

    return make


def test_a_tracker_hears_losses_dev_scores_and_the_runs_name(recipe, tmp_path, monkeypatch):
    heard = []

    class Recorder(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            heard.append((args.run_name, state.global_step, sorted(logs)))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "mlflow", Recorder)
    monkeypatch.setattr(trackers, "get_available_reporting_integrations", lambda: ["mlflow"])
    monkeypatch.setattr(integration_utils, "get_available_reporting_integrations", lambda: ["mlflow"])
    train_run(recipe("mlflow"), tmp_path / "run")
    assert {name for name, _, _ in heard} == {"tiny"}
    named = {key for _, _, keys in heard for key in keys}
    assert {"loss", "learning_rate", "eval_f1"} <= named


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("wandbb", "no tracker is called 'wandbb'; choose from .*wandb"),
        ("comet_ml", "comet_ml is not installed; install it"),
        ("tensorboard", "TensorBoard's files are in the run's logs anyway"),
    ],
)
def test_what_cannot_be_told_to_is_refused_before_anything_is_made(recipe, tmp_path, name, told):
    with pytest.raises(RecipeError, match=f"train.report_to: {told}"):
        train_run(recipe(name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_written_where_it_is_installed_and_not_needed(recipe, tmp_path, monkeypatch):
    with_it = train_run(recipe(), tmp_path / "with") / "logs"
    assert list(with_it.glob("events.out.tfevents.*"))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    without = train_run(recipe(), tmp_path / "without") / "logs"
    assert [path.name for path in without.iterdir()] == ["curve.json"]
    losses = [json.loads((logs / "curve.json").read_text())["losses"] for logs in (with_it, without)]
    assert losses[0] == losses[1]
    with pytest.raises(MissingExtraError) as caught:
        train_run(recipe("tensorboard"), tmp_path / "asked")
    assert install_line("tensorboard") in str(caught.value)
