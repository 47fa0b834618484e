"""Renamed keys and options are refused everywhere, with the new name."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from palate.cli import app
from palate.config.load import Layer, load_recipe, recipe_from
from palate.config.recipe import Recipe
from palate.config.renames import DATASET, ITEM_TABLE, MODEL, OPTIONS, PREPARE, RECIPE, renamed, renamed_keys
from palate.config.section import sections_of
from palate.data.dataset import load_dataset
from palate.data.tabular.settings import OwnData, own_settings
from palate.errors import DataError, OldKeyError, RecipeError
from palate.items.table import ItemTable
from palate.model.model import load_model
from palate.runs.run import RunFolder
from palate.training.train import train_run
from tiny import tiny_recipe


def nested(key, value=1):
    """The mapping in which a dotted key stands."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def fields(model, prefix=""):
    """The dotted keys of a recipe, over all kinds of each section."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in sections_of(field):
            yield from fields(section, f"{prefix}{name}.")


@pytest.mark.parametrize("old", RECIPE)
def test_an_old_key_of_a_recipe_is_refused_with_its_new_name(old, tmp_path):
    said = f"{old} is now {RECIPE[old]}"
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(nested(old)))
    for read, origin in (
        (lambda: load_recipe(file), f"{file}: "),
        (lambda: recipe_from([], [Layer("--set", nested(old))]), "--set: "),
        (lambda: recipe_from([Layer("the recipe", nested(old))]), "the recipe: "),
    ):
        with pytest.raises(RecipeError) as refused:
            read()
        assert str(refused.value).startswith(origin + said)
    done = CliRunner().invoke(app, ["train", str(_empty(tmp_path)), "--set", f"{old}=1"])
    assert (done.exit_code, said in done.stderr) == (2, True)


def _empty(folder):
    (folder / "empty.yaml").write_text("")
    return folder / "empty.yaml"


def test_every_new_key_of_a_recipe_is_one_and_no_old_key_is():
    known = set(fields(Recipe))
    assert set(RECIPE.values()) <= known
    assert not RECIPE.keys() & known


def test_several_old_keys_are_all_named_with_the_values_that_changed():
    with pytest.raises(OldKeyError) as refused:
        recipe_from([Layer("x.yaml", {"train": {"precision": "bf16", "optimizer": "adamw", "steps": 3}})])
    assert str(refused.value) == (
        "x.yaml: train.precision is now train.bf16 (true or false); "
        "train.optimizer is now train.optim (adamw_torch or adafactor); train.steps is now train.max_steps"
    )


@pytest.fixture(scope="module")
def finished(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("renames")
    recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, folder / "cache", train={"max_steps": 1})
    return train_run(recipe, folder / "run")


def with_old_key(file: Path, old: str, new: str):
    """Write a file's content under an old key, whether or not it has the new one."""
    content = json.loads(file.read_text())
    *above, name = old.split(".")
    section = content
    for part in above:
        section = section.setdefault(part, {})
    section[name] = section.pop(new.split(".")[-1], 1)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("old", [key for key in MODEL if not key.startswith("backbone.")])
def test_a_saved_model_with_an_old_key_is_refused_with_its_new_name(old, finished):
    config = finished / "model" / "config.json"
    before = config.read_text()
    try:
        with_old_key(config, old, MODEL[old])
        with pytest.raises(DataError) as refused:
            load_model(finished)
    finally:
        config.write_text(before)
    assert str(refused.value) == (
        f"{config}: {old} is now {MODEL[old]}; this model was saved by an earlier version: train it again"
    )


@pytest.mark.parametrize("kind", ["t5", "causal"])
def test_a_saved_backbone_s_old_key_is_named_without_the_kind(kind):
    from palate.backbones.source import BackboneSource

    content = {"backbone": {"settings": {"kind": kind, "name": "x", "lora_rank": 4}, "digest": "0"}}
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(dict[str, BackboneSource]).validate_python(content)
    said = renamed_keys(refused.value, MODEL, tags=("t5", "causal"))
    assert said == "backbone.settings.lora_rank is now backbone.settings.lora_r"


def test_a_run_with_an_old_key_says_to_train_it_again(finished):
    file = finished / "recipe.yaml"
    before = file.read_text()
    try:
        file.write_text(before.replace("max_steps:", "steps:"))
        with pytest.raises(OldKeyError, match=r"train\.steps is now train\.max_steps; .*: train it again"):
            _ = RunFolder(finished).recipe
    finally:
        file.write_text(before)


@pytest.mark.parametrize("old", ITEM_TABLE)
def test_an_item_table_with_an_old_key_is_refused_with_its_new_name(old, finished):
    file = finished / "model" / "items" / "items.json"
    before = file.read_text()
    try:
        with_old_key(file, old, ITEM_TABLE[old])
        with pytest.raises(DataError, match=f"{old} is now {ITEM_TABLE[old]}; .*: build it again"):
            ItemTable.load(file.parent)
    finally:
        file.write_text(before)


@pytest.mark.parametrize("old", DATASET)
def test_a_dataset_with_an_old_key_is_refused_with_its_new_name(old, tiny_data):
    file = tiny_data.path / "dataset.json"
    before = file.read_text()
    try:
        with_old_key(file, old, DATASET[old])
        with pytest.raises(DataError, match=f"{old} is now {DATASET[old]}; .*: run palate prepare again"):
            load_dataset(tiny_data.path)
    finally:
        file.write_text(before)


@pytest.mark.parametrize("old", PREPARE)
def test_an_old_key_of_the_settings_of_own_data_is_refused_with_its_new_name(old, tmp_path):
    assert PREPARE[old] in OwnData.model_fields
    file = tmp_path / "own.yaml"
    file.write_text(f"{old}: 5\n")
    with pytest.raises(RecipeError) as refused:
        own_settings(file, {})
    assert str(refused.value) == f"{file}: {old} is now {PREPARE[old]}"


@pytest.mark.parametrize("old", OPTIONS)
@pytest.mark.parametrize("form", ["{} 5", "{}=5"])
def test_an_old_option_is_refused_with_its_new_name(old, form):
    done = CliRunner().invoke(app, ["prepare", "events.csv", "--out", "x", *form.format(old).split()])
    assert (done.exit_code, done.stderr) == (2, f"palate: {old} is now {OPTIONS[old]}\n")
    assert OPTIONS[old] in CliRunner(env={"COLUMNS": "200"}).invoke(app, ["prepare", "--help"]).stdout


def test_a_key_that_was_never_renamed_has_no_new_name():
    assert renamed("train.learning_rate", RECIPE) is None
