"""Variants of a recipe: the product of grid and seeds, validated before any training."""

import pytest

from palate.config.variants import recipe_variants
from palate.errors import RecipeError


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("name: small\nseed: 7\n")
    return path


def test_every_combination_with_every_seed(recipe):
    grid = ["train.learning_rate=1.0e-3,3.0e-3", "model.user_encoder.kind=uem,resampler"]
    found = recipe_variants(recipe, ["train.max_steps=5"], "0,2", grid)
    assert [one.name for one in found] == [
        f"small-learning_rate={rate}-kind={kind}-seed{seed}"
        for rate in ("0.001", "0.003")
        for kind in ("uem", "resampler")
        for seed in (0, 2)
    ]
    assert [one.group for one in found][::4] == [
        "learning_rate=0.001-kind=uem",
        "learning_rate=0.003-kind=uem",
    ]
    last = found[-1].recipe
    assert (last.train.learning_rate, last.model.user_encoder.kind, last.seed) == (3e-3, "resampler", 2)
    assert {one.recipe.train.max_steps for one in found} == {5}
    assert {one.recipe.name for one in found} == {"small"}  # palate evaluate knows seeds of one recipe by it


def test_without_seeds_the_recipes_own_and_without_a_grid_seeds_alone(recipe):
    assert [one.name for one in recipe_variants(recipe, grid=["task.max_labels=1,2"])] == [
        "small-max_labels=1-seed7",
        "small-max_labels=2-seed7",
    ]
    assert [(one.name, one.group) for one in recipe_variants(recipe, seeds="3")] == [("small-seed3", "")]


def test_lists_and_words_stand_in_a_folders_name(recipe):
    grid = ["train.eval_windows=[5],[5, 20]", "items.encoder=org/one,packaged:all-MiniLM-L6-v2"]
    names = [one.name for one in recipe_variants(recipe, grid=grid)]
    assert names[1] == "small-eval_windows=5-encoder=packaged_all-MiniLM-L6-v2-seed7"
    assert len(set(names)) == 4
    assert all("/" not in name for name in names)


@pytest.mark.parametrize(
    ("seeds", "grid", "told"),
    [
        ("0,x", [], "--seeds 0,x: expected different whole numbers"),
        ("1,1", [], "--seeds 1,1: expected different whole numbers"),
        (None, ["train.learning_rate"], "--grid train.learning_rate: expected key=value,value"),
        (None, ["train.learning_rate=1"], "found 1 different values"),
        (None, ["train.learning_rate=1,1"], "found 1 different values"),
        (None, ["train.rounds=[1,2"], "expected key=value,value"),
        (None, ["seed=1,2"], "give seeds by --seeds"),
        (None, ["task.max_labels=1,2", "task.max_labels=3,4"], "task.max_labels is given twice"),
        (None, ["train.learning_rate=0.1,-1"], "train.learning_rate"),
    ],
)
def test_what_cannot_be_read_is_told(recipe, seeds, grid, told):
    with pytest.raises(RecipeError, match=told.replace("[", r"\[")):
        recipe_variants(recipe, (), seeds, grid)
