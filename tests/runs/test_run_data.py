"""A run's dataset is found from any folder, also if both were moved together; otherwise an error asks for it."""

import shutil

import pytest

from palate.config.recipe import Recipe
from palate.data.dataset import load_dataset
from palate.errors import DataError
from palate.runs.data import dataset_of
from palate.runs.run import RunFolder, load_run, open_run
from tiny import prepare_tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a dataset."""
    folder = tmp_path_factory.mktemp("made")
    prepare_tiny(folder)
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A folder to work in, with the dataset in ``data``."""
    work = tmp_path / "work"
    shutil.copytree(made / "data", work / "data")
    monkeypatch.chdir(work)
    return work


def started(path, data="data"):
    recipe = Recipe.model_validate({"data": {"path": data}})
    return open_run(path, recipe, load_dataset(data).info)


def test_a_relative_path_is_found_from_another_folder(place, monkeypatch, tmp_path):
    run = started("runs/one")
    monkeypatch.chdir(tmp_path)
    assert dataset_of(load_run(place / run.path)).path == place / "data"


def test_a_run_that_was_moved_with_its_data_finds_it(place, monkeypatch, tmp_path):
    started("demo/main", "data")
    moved = tmp_path / "elsewhere"
    place.rename(moved)
    monkeypatch.chdir(tmp_path)
    assert dataset_of(load_run("elsewhere/demo/main")).path == moved / "data"


def test_a_run_of_an_earlier_version_finds_its_relative_path_from_above(place, monkeypatch, tmp_path):
    run = started("runs/one")
    manifest = run.manifest.model_dump_json(exclude={"data_from_run"})
    run.manifest_file.write_text(manifest)
    run.recipe_file.write_text(run.recipe_file.read_text().replace(f"path: {place}/data", "path: data"))
    assert str(run.recipe.data.path) == "data"
    run = RunFolder(place / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    assert dataset_of(run).path == place / "data"


def test_of_several_datasets_the_one_with_the_runs_fingerprint_is_taken(place, monkeypatch, tmp_path):
    started("runs/one")
    moved = tmp_path / "elsewhere"
    shutil.copytree(place, moved)
    shutil.rmtree(place / "data")
    other = prepare_tiny(tmp_path / "other", seed=7)
    shutil.copytree(tmp_path / "other" / "data", place / "data")  # something else lies where the data was
    found = dataset_of(load_run(moved / "runs" / "one"))
    assert found.path == moved / "data"
    assert found.info.fingerprint != other.info.fingerprint


def test_data_that_is_nowhere_is_asked_for_with_the_places(place):
    run = started("runs/one")
    shutil.rmtree(place / "data")
    with pytest.raises(DataError, match=rf"is not at {place}/data; .* name its folder with --data"):
        dataset_of(run)


def test_data_may_be_named(place, monkeypatch):
    run = started("runs/one")
    (place / "data").rename(place / "new")
    monkeypatch.setenv("HOME", str(place))
    assert dataset_of(run, place / "new").info.fingerprint == run.manifest.data_fingerprint
    assert len(dataset_of(run, type(place)("~/new")).user_ids) == len(load_dataset(place / "new").user_ids)


def test_the_same_recipe_goes_on_from_another_folder_and_with_moved_data(place, monkeypatch, tmp_path):
    path = place / "runs" / "one"
    started(path)
    monkeypatch.chdir(tmp_path)
    started(path, "work/data")  # the same folder, as it is called from here
    (place / "data").rename(tmp_path / "new")
    run = started(path, "new")
    assert run.recipe.data.path == tmp_path / "new"
    assert dataset_of(run).path == tmp_path / "new"
    assert len(run.manifest.resumed) == 2
