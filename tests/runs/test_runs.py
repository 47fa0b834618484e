"""Runs: their manifest, and resumption with the same recipe and data only."""

import errno
import subprocess
import sys

import pytest

from holding import held_elsewhere
from palate.config.recipe import Recipe, TrainSettings
from palate.data.dataset import DatasetInfo
from palate.errors import DataError, MismatchError, OutputError
from palate.runs.run import COMPLETE, RunFolder, load_run, open_run
from palate.system.machine import checkout_commit, describe_machine, package_versions
from palate.system.places import rooted


def dataset_info(fingerprint: str = "sha256:aaaa") -> DatasetInfo:
    return DatasetInfo(
        name="tiny",
        source="tiny",
        checksums={"ratings.dat": "sha256:00"},
        licence="none",
        users=1,
        items=1,
        interactions=1,
        rating_values=(1.0,),
        category_field="genre",
        categories=("Drama",),
        min_ratings=1,
        split_seed=0,
        split_sizes={"train": 1, "dev": 0, "test": 0},
        described_items=0,
        report={},
        fingerprint=fingerprint,
    )


def test_a_new_run_says_what_made_it(tmp_path):
    recipe = Recipe(name="demo", seed=3)
    run = open_run(tmp_path / "runs" / "demo", recipe, dataset_info())
    manifest = run.manifest
    assert run.recipe == rooted(recipe)
    assert (manifest.seed, manifest.data_name, manifest.data_fingerprint) == (3, "tiny", "sha256:aaaa")
    assert manifest.data_checksums == {"ratings.dat": "sha256:00"}
    assert {"python", "palate", "torch", "transformers"} <= set(manifest.versions)
    assert manifest.machine.cores >= 1
    assert manifest.command
    assert manifest.started.tzinfo is not None
    assert manifest.ended is None
    assert run.logs.is_dir()
    assert run.checkpoints.is_dir()


def test_a_finished_run_has_an_end(tmp_path):
    run = open_run(tmp_path / "run", Recipe(), dataset_info())
    run.finish()
    assert run.manifest.ended >= run.manifest.started


def test_the_same_recipe_goes_on(tmp_path):
    first = open_run(tmp_path / "run", Recipe(), dataset_info())
    (first.checkpoints / "step-5").mkdir()
    first.finish()
    second = open_run(tmp_path / "run", Recipe(), dataset_info())
    assert (second.checkpoints / "step-5").is_dir()
    assert len(second.manifest.resumed) == 1
    assert second.manifest.started == first.manifest.started
    assert second.manifest.ended is None


def begun(path):
    """A run with a checkpoint."""
    run = open_run(path, Recipe(), dataset_info())
    checkpoint = run.checkpoints / "checkpoint-5"
    checkpoint.mkdir()
    (checkpoint / COMPLETE).touch()
    return run


def test_another_recipe_is_refused_with_its_differences(tmp_path):
    begun(tmp_path / "run")
    other = Recipe(seed=1, train=TrainSettings(max_steps=3))
    with pytest.raises(
        OutputError, match=r"a run of another recipe \(differs in seed, train\.max_steps\); name a new"
    ):
        open_run(tmp_path / "run", other, dataset_info())


def test_other_data_is_refused(tmp_path):
    begun(tmp_path / "run")
    with pytest.raises(MismatchError, match="was trained on other data"):
        open_run(tmp_path / "run", Recipe(), dataset_info("sha256:bbbb"))


@pytest.mark.parametrize(
    ("recipe", "data"), [(Recipe(seed=1), dataset_info()), (Recipe(), dataset_info("sha256:bbbb"))]
)
def test_a_run_without_a_checkpoint_or_a_model_makes_room_for_another(tmp_path, recipe, data):
    left = open_run(tmp_path / "run", Recipe(), dataset_info())
    (left.checkpoints / "checkpoint-5").mkdir()  # cut before it was whole
    (left.logs / "events").touch()
    run = open_run(tmp_path / "run", recipe, data)
    assert (run.recipe, run.manifest.data_fingerprint) == (rooted(recipe), data.fingerprint)
    assert [*run.checkpoints.iterdir(), *run.logs.iterdir()] == []


def test_what_lies_beside_a_run_is_never_removed(tmp_path):
    run = open_run(tmp_path / "run", Recipe(), dataset_info())
    (run.path / "notes.txt").touch()
    with pytest.raises(OutputError, match="a run of another recipe"):
        open_run(tmp_path / "run", Recipe(seed=1), dataset_info())
    assert (run.path / "notes.txt").exists()
    assert run.recipe == rooted(Recipe())


def test_a_recipe_of_ones_own_is_no_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 3\n")
    with pytest.raises(OutputError, match="is not empty; name a new folder"):
        open_run(tmp_path, Recipe(), dataset_info())
    assert (tmp_path / "recipe.yaml").read_text() == "seed: 3\n"


def test_a_recipe_that_is_cut_is_not_filled_with_defaults(tmp_path):
    run = open_run(tmp_path / "run", Recipe(seed=3), dataset_info())
    run.recipe_file.write_text(run.recipe_file.read_text().split("train:")[0])
    with pytest.raises(
        DataError, match=r"recipe\.yaml: incomplete recipe of a run: section 'evaluate' is missing"
    ):
        load_run(run.path).recipe  # noqa: B018


def test_what_a_killed_training_left_half_written_is_removed(tmp_path):
    run = begun(tmp_path / "run")
    for folder in (run.path, run.checkpoints, run.logs):
        (folder / ".file.partial").mkdir()
    open_run(tmp_path / "run", Recipe(), dataset_info())
    assert not list(run.path.rglob(".*"))


def test_a_run_that_another_process_trains_is_refused(tmp_path):
    with (
        held_elsewhere(tmp_path / "run") as process,
        pytest.raises(OutputError, match=f"process {process.pid} "),
    ):
        open_run(tmp_path / "run", Recipe(), dataset_info())


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="is not empty"):
        open_run(tmp_path, Recipe(), dataset_info())


def test_a_run_that_could_not_be_written_is_not_there(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="disk full"):
        open_run(tmp_path / "run", Recipe(), dataset_info())
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_cannot_be_loaded(tmp_path):
    with pytest.raises(DataError, match="not a run: expected a folder that 'palate train' wrote"):
        load_run(tmp_path)
    open_run(tmp_path / "run", Recipe(), dataset_info())
    assert load_run(tmp_path / "run") == RunFolder(tmp_path / "run")


def test_a_damaged_manifest_is_named(tmp_path):
    run = open_run(tmp_path / "run", Recipe(), dataset_info())
    run.manifest_file.write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: not the manifest of a run"):
        open_run(tmp_path / "run", Recipe(), dataset_info())


def test_the_machine_is_described_without_torch():
    code = (
        "import sys; from palate.system.machine import describe_machine, package_versions\n"
        "describe_machine(); package_versions(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert describe_machine().processor
    assert package_versions()["torch"]


def test_the_repository_around_an_installed_package_is_not_palates(tmp_path, monkeypatch):
    installed = tmp_path / "site-packages" / "palate" / "machine.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr("palate.system.machine.__file__", str(installed))
    assert checkout_commit() is None
