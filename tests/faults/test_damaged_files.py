"""Every file of a dataset, run and export, damaged in every way: an error in one line, or no effect."""

import shutil
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from rights import without_rights
from typer.testing import CliRunner
from world import World

from palate.cli import app
from palate.errors import PalateError
from palate.export.read import read_prompts


@contextmanager
def nothing():
    yield


def empty(path: Path):
    path.write_bytes(b"")
    return nothing()


def truncate(path: Path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return nothing()


def remove(path: Path):
    path.unlink()
    return nothing()


def make_a_folder_of(path: Path):
    path.unlink()
    path.mkdir()
    return nothing()


def bar(path: Path):
    path.chmod(0)
    return without_rights()


def bar_its_folder(path: Path):
    path.parent.chmod(0)
    return without_rights()


DAMAGES = (empty, truncate, remove, make_a_folder_of, bar, bar_its_folder)


def ended(arguments) -> tuple[str, str]:
    """How a command ended, "right" where it was in order, and what it printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {done.exception}", ""
    lines = done.stderr.strip().splitlines()
    if done.exit_code == 0 or (done.exit_code == 2 and lines[-1].startswith("palate: ")):
        return "right", done.stdout if done.exit_code == 0 else ""
    return f"exit code {done.exit_code}: {done.stderr}", ""


def walk(
    world: World, copy: Path, place: str, reads: Callable[[Path], tuple[str, str]], only: slice
) -> dict[tuple[str, str], str]:
    """What was wrong, by file and damage, when each file below a place was damaged in turn and then read."""
    whole = world.folder / place
    shutil.copytree(whole, copy)
    ended_whole, printed_whole = reads(copy)
    assert ended_whole == "right"
    assert printed_whole
    wrong = {}
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for file in files[only]:
        for damage in DAMAGES:
            remove_all(copy)
            shutil.copytree(whole, copy)
            with damage(copy / file):
                found, printed = reads(copy)
            if found == "right" and printed not in ("", printed_whole):
                found = f"other than of the whole one: {printed}"
            if found != "right":
                wrong[str(file), damage.__name__] = found
    remove_all(copy)
    return wrong


def remove_all(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


ALL = pytest.param(slice(None), marks=pytest.mark.slow)


def test_every_file_of_a_dataset(whole, tmp_path):
    world, _ = whole

    def reads(data):
        return ended(["inspect", data])

    assert walk(world, tmp_path / "data", "data", reads, slice(None)) == {}


@pytest.mark.parametrize("only", [slice(0, None, 4), ALL])
def test_every_file_of_a_run_and_its_model(whole, tmp_path, only):
    world, _ = whole

    def reads(run):
        return ended(["generate", run, "--user", "1"])

    assert walk(world, tmp_path / "run", "run", reads, only) == {}


@pytest.mark.parametrize("command", ["evaluate", "export", "train", "questions"])
@pytest.mark.slow
def test_every_file_of_a_run_by_every_command(whole, tmp_path, command):
    world, _ = whole

    def reads(run):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        given = {
            "evaluate": ["evaluate", run],
            "export": ["export", run, "--user", "1", "--out", tmp_path / "out"],
            "train": ["train", world.folder / "recipe.yaml", "--out", run],
            "questions": ["questions", run],
        }
        return ended(given[command])[0], "nothing to compare"

    assert walk(world, tmp_path / "run", "run", reads, slice(None)) == {}


@pytest.mark.parametrize("only", [slice(0, 4), ALL])
def test_every_file_of_an_export(whole, tmp_path, only):
    world, _ = whole

    def reads(prompts):
        try:
            read_prompts(prompts).check()
        except PalateError:
            return "right", ""
        except Exception as error:
            return f"{type(error).__name__}: {error}", ""
        return "right", "checked"

    assert walk(world, tmp_path / "prompts", "prompts", reads, only) == {}
