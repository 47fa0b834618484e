"""Paths in settings: the home folder, and independence from the working directory."""

from pathlib import Path

import pytest

from palate.config.load import Layer, load_recipe, recipe_from
from palate.config.recipe import CausalSettings, PretrainedT5Settings, Recipe
from palate.errors import RecipeError
from palate.system.places import rooted


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_home_folder_is_meant_in_every_path_of_a_recipe(home):
    settings = {
        "data": {"path": "~/data"},
        "items": {"encoder": "~/encoder", "cache": "~/cache"},
        "model": {"user_encoder_from": "~/runs/other", "backbone": {"kind": "causal", "name": "~/llama"}},
    }
    recipe = recipe_from([Layer("here", settings)])
    assert recipe.data.path == home / "data"
    assert (recipe.items.encoder, recipe.items.cache) == (str(home / "encoder"), home / "cache")
    assert recipe.model.user_encoder_from == home / "runs" / "other"
    assert recipe.model.backbone.name == str(home / "llama")
    t5 = recipe_from([Layer("here", {"model": {"backbone": {"kind": "t5", "name": "~/t5"}}})])
    assert t5.model.backbone.name == str(home / "t5")


def test_an_override_may_name_the_home_folder(home, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    assert load_recipe(tmp_path / "recipe.yaml", ["data.path=~/data"]).data.path == home / "data"


def test_nobodys_home_folder_is_refused_with_the_key():
    with pytest.raises(RecipeError, match=r"data\.path.*~nobody-of-that-name.*write the path in full"):
        recipe_from([Layer("here", {"data": {"path": "~nobody-of-that-name/data"}})])


def test_a_rooted_recipe_means_the_same_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "llama").mkdir()
    settings = {
        "data": {"path": "data/mine"},
        "items": {"encoder": "encoder", "cache": "cache"},
        "model": {"user_encoder_from": "runs/other", "backbone": {"kind": "causal", "name": "llama"}},
    }
    recipe = rooted(recipe_from([Layer("here", settings)]))
    assert recipe.data.path == tmp_path / "data" / "mine"
    assert (recipe.items.encoder, recipe.items.cache) == (str(tmp_path / "encoder"), tmp_path / "cache")
    assert recipe.model.user_encoder_from == tmp_path / "runs" / "other"
    assert recipe.model.backbone.name == str(tmp_path / "llama")
    monkeypatch.chdir(Path(tmp_path.anchor))
    assert rooted(recipe) == recipe


@pytest.mark.parametrize("backbone", [PretrainedT5Settings(), CausalSettings(), CausalSettings(name="a/b")])
def test_names_on_the_hub_and_of_packages_stay_as_they_are(tmp_path, monkeypatch, backbone):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe()
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"backbone": backbone})})
    found = rooted(recipe)
    assert found.model.backbone == backbone
    assert found.items == recipe.items
    assert found.model.user_encoder_from is None
