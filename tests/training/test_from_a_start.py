"""A training that starts from a model whose weights know no catalogue: better on dev users, or the start is kept."""

import pytest
import torch

from palate.config.recipe import ModelSettings
from palate.errors import RecipeError
from palate.model.config import model_settings
from palate.model.model import load_model
from palate.training.train import train_run
from tiny import tiny_recipe, unbound_model

TRAIN = {"max_steps": 4, "eval_steps": 2, "auxiliary_weight": 1.0}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "model"
    unbound_model(grammar=True, max_new_tokens=48).save_pretrained(folder)
    return folder


def trained(start, data, tmp_path, **train):
    recipe = tiny_recipe(data.path, tmp_path / "none", tmp_path / "cache", train={**TRAIN, **train})
    said = []
    recipe = recipe.model_copy(update={"model": ModelSettings(start=str(start))})
    train_run(recipe, tmp_path / "run", report=said.append, device="cpu")
    return tmp_path / "run", said


def weights_that_differ(first, second):
    theirs = second.state_dict()
    return {
        ".".join(name.split(".")[:2])
        for name, weight in first.state_dict().items()
        if not torch.equal(weight, theirs[name])
    }


def test_only_what_reads_statistics_is_trained(start, tiny_data, tmp_path, monkeypatch):
    scores = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: _score(next(scores, 0.3)))
    run, said = trained(start, tiny_data, tmp_path)
    assert "dev F1 0.100 before the training" in said
    model = load_model(run, device="cpu")
    assert weights_that_differ(load_model(start, device="cpu"), model) == {"user_encoder.network"}
    assert model_settings(run).training.best_step == 4
    assert model.settings.data_fingerprint == tiny_data.info.fingerprint
    histories = tiny_data.histories(tiny_data.user_ids[:2])
    assert all(text.startswith("The user likes") for text in model.generate(histories))


def test_a_start_that_no_step_is_better_than_is_kept(start, tiny_data, tmp_path, monkeypatch):
    scores = iter([0.3, 0.2, 0.3])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: _score(next(scores, 0.3)))
    run, said = trained(start, tiny_data, tmp_path, learning_rate=1.0)
    assert any(
        line.startswith("no step was better than the start, which is kept: dev F1 0.300") for line in said
    )
    assert weights_that_differ(load_model(start, device="cpu"), load_model(run, device="cpu")) == set()


def _score(f1):
    from palate.training.dev import DevScore

    return DevScore(f1, 0.0)


def test_a_start_is_a_whole_model_of_the_universal_kind(tiny_data, tmp_path):
    with pytest.raises(ValueError, match="start brings a whole model, and task_prompt is given beside it"):
        ModelSettings(start="packaged", task_prompt=3)
    recipe = tiny_recipe(
        tiny_data.path,
        tmp_path / "none",
        tmp_path / "cache",
        model={"user_encoder": {"kind": "text"}},
        train={"max_steps": 0},
    )
    train_run(recipe, tmp_path / "other", device="cpu")
    with pytest.raises(RecipeError, match="has a 'text' user encoder, whose weights are of one catalogue"):
        trained(tmp_path / "other", tiny_data, tmp_path)
