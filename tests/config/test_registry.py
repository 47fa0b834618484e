"""Registered kinds from outside palate: trained, saved, loaded, compared and refused."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from torch import nn
from typer.testing import CliRunner

import palate
from palate.cli import app
from palate.config import registry
from palate.config.load import dump_recipe, load_recipe
from palate.config.recipe import Recipe, TaskSettings
from palate.encoders.base import UserPrompt
from palate.errors import ConflictError, MismatchError, RecipeError
from palate.model.model import load_model
from palate.schema import Preferences
from palate.tasks import CategoryPreference
from palate.training.train import train_run
from tiny import tiny_recipe, with_own_registries


class MeanSettings(palate.KindSettings):
    scale: float = 1.0


class MeanEncoder(nn.Module):
    def __init__(self, settings, sizes):
        super().__init__()
        self.scale = settings.scale
        self.project = nn.Linear(sizes.fields * sizes.vector, sizes.embedding)

    def forward(self, events):
        items = events.item_vectors.flatten(1)[events.item]
        mean = (items * events.mask[..., None]).sum(1, keepdim=True) / events.mask.sum(1)[:, None, None]
        return UserPrompt(self.scale * self.project(mean), events.mask[:, :1])


class Favourite(CategoryPreference):
    def labels(self, statistics):
        both = super().labels(statistics)
        return Preferences(both.liked[:, :1], np.full_like(both.disliked[:, :1], -1))


class Nobody:
    name = "nobody likes anything"

    def __init__(self, dataset, task, kind):
        self.kind = kind

    def predict(self, user_index, windows):
        return [""] * len(windows)


def register():
    palate.register_user_encoder("tests-mean", MeanEncoder, MeanSettings)
    palate.register_task("tests-favourite", Favourite, TaskSettings)
    palate.register_predictor("tests-nobody", Nobody)


@pytest.fixture
def registered(monkeypatch):
    """The tests' kinds, gone again afterwards."""
    with_own_registries(monkeypatch)
    register()


@pytest.fixture
def run(registered, tiny_data, tiny_sentence_encoder, tmp_path):
    model = {
        "backbone": {"kind": "random-t5", "d_model": 32, "d_ff": 64, "num_heads": 2, "num_layers": 1},
        "user_encoder": {"kind": "tests-mean", "scale": 2.0},
    }
    recipe = tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", model=model, train={"max_steps": 4}
    )
    settings = recipe.model_dump(mode="json")
    settings["task"] = {"kind": "tests-favourite"}
    return train_run(Recipe.model_validate(settings), tmp_path / "run")


def test_a_recipe_names_a_registered_kind_and_its_settings_are_validated(registered, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {user_encoder: {kind: tests-mean}}")
    recipe = load_recipe(path, ["model.user_encoder.scale=3"])
    assert isinstance(recipe.model.user_encoder, MeanSettings)
    assert recipe.model.user_encoder.scale == 3.0
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe
    with pytest.raises(
        RecipeError, match=r"unknown key 'model.user_encoder.scal'.*'model.user_encoder.scale'"
    ):
        load_recipe(path, ["model.user_encoder.scal=3"])
    with pytest.raises(RecipeError, match=r"'model.user_encoder.scale' is 'wide'"):
        load_recipe(path, ["model.user_encoder.scale=wide"])
    changed = load_recipe(path, ["model.user_encoder.num_layers=2", "model.user_encoder.kind=uem"])
    assert (changed.model.user_encoder.kind, changed.model.user_encoder.num_layers) == ("uem", 2)


def test_a_model_of_registered_kinds_is_trained_saved_loaded_and_evaluated(run, tiny_data, tmp_path):
    model = load_model(run)
    assert isinstance(model.user_encoder, MeanEncoder)
    assert model.user_encoder.scale == 2.0
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    assert model.encode(histories).embeddings.shape == (3, 1, 32)
    assert len(model.generate(histories)) == 3
    shown = CliRunner().invoke(app, ["evaluate", str(run), "tests-nobody", "--out", str(tmp_path / "scores")])
    assert shown.exit_code == 0, shown.output
    scored = json.loads((tmp_path / "scores" / "metrics.json").read_text())["predictors"]
    assert {"run", "rule", Nobody.name} <= {one["name"] for one in scored}


def test_a_saved_model_of_a_kind_that_is_not_registered_says_what_is_missing(run, monkeypatch):
    entries = {name: one for name, one in registry.user_encoders._entries.items() if name != "tests-mean"}
    monkeypatch.setattr(registry.user_encoders, "_entries", entries)
    with pytest.raises(
        MismatchError,
        match=r"no user encoder 'tests-mean'; registered are uem, .*install the package that provides it",
    ):
        load_model(run)


def test_no_module_that_a_file_names_is_imported(run):
    config = run / "model" / "config.json"
    content = json.loads(config.read_text())
    content["user_encoder"]["kind"] = "antigravity:fly"
    config.write_text(json.dumps(content))
    with pytest.raises(MismatchError, match="antigravity:fly"):
        load_model(run)
    import sys

    assert "antigravity" not in sys.modules


def test_a_name_stands_for_one_thing(registered):
    register()  # the same again changes nothing
    for kind in ("tests-mean", "uem"):
        with pytest.raises(ConflictError, match=f"the user encoder '{kind}' is already registered"):
            palate.register_user_encoder(kind, nn.Linear, MeanSettings)
    with pytest.raises(ConflictError, match="a reference needs a name"):
        palate.register_predictor("", Nobody)


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {user_encoder: {kind: straming}}")
    with pytest.raises(
        RecipeError, match=r"'model.user_encoder.kind': there is no .*did you mean 'streaming'\?"
    ):
        load_recipe(path)
    with pytest.raises(ValidationError, match="no task 'telepathy'"):
        Recipe.model_validate({"task": {"kind": "telepathy"}})


def test_an_installed_package_brings_kinds(monkeypatch, tmp_path):
    """Its entry point is loaded when its kind is asked for, and not before."""
    package = tmp_path / "site"
    (package / "brings_kinds-1.0.dist-info").mkdir(parents=True)
    (package / "brings_kinds-1.0.dist-info" / "METADATA").write_text("Name: brings-kinds\nVersion: 1.0\n")
    (package / "brings_kinds-1.0.dist-info" / "entry_points.txt").write_text(
        "[palate.predictors]\nbrought = brings_kinds:register\n"
    )
    (package / "brings_kinds.py").write_text(
        "import palate\n\n\nclass Brought:\n    name = 'brought'\n\n    def __init__(self, *_):\n        pass\n\n"
        "    def predict(self, user_index, windows):\n        return [''] * len(windows)\n\n\n"
        "def register():\n    palate.register_predictor('brought', Brought)\n"
    )
    monkeypatch.syspath_prepend(str(package))
    with_own_registries(monkeypatch)
    import sys

    assert "brought" in registry.predictors
    assert "brings_kinds" not in sys.modules
    built = registry.predictors.find("brought")(None, None, "random")
    assert built.predict([0], [None]) == [""]
