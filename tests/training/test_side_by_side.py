"""Concurrent trainings: prefixed output, and all end if one fails."""

import json
import os
import subprocess
import sys
import time

import pytest

from palate.config.recipe import Recipe
from palate.errors import PalateError
from palate.training import side_by_side
from palate.training.side_by_side import train_side_by_side

# Stands in for a training, without its seconds of imports: does what its run's folder is called.
WORKER = """
import json, os, sys
from pathlib import Path
given = json.loads(sys.stdin.readline())
out = Path(given["out"])
out.mkdir()
(out / "pid").write_text(str(os.getpid()))
print(f"{given['recipe']['name']} with seed {given['recipe']['seed']}", flush=True)
if out.name == "waits":
    sys.stdin.read()  # until whoever started it closes it, or is gone
    sys.exit(130)
if out.name == "refuses":
    print("the recipe is wrong; correct it", flush=True)
    sys.exit(2)
if out.name == "crashes":
    print("MemoryError", file=sys.stderr, flush=True)
    sys.exit(1)
if out.name == "killed":
    os.kill(os.getpid(), 9)
(out / "done").touch()
"""


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    monkeypatch.setattr(side_by_side, "_COMMAND", (sys.executable, "-c", WORKER))


def runs(tmp_path, *names):
    return {name: (Recipe(name=name, seed=len(name)), tmp_path / name) for name in names}


def is_running(folder):
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_each_line_is_told_after_the_name_of_who_said_it(tmp_path):
    lines = []
    train_side_by_side(runs(tmp_path, "one", "other"), lines.append)
    assert sorted(lines) == ["one    one with seed 3", "other  other with seed 5"]
    assert all((tmp_path / name / "done").exists() for name in ("one", "other"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refuses", r"^training refuses failed: the recipe is wrong; correct it$"),
        (
            "crashes",
            r"^training crashes ended with exit status 1 \(MemoryError\); run it again, and .*crashes resumes from",
        ),
        ("killed", r"^training killed was killed by signal 9 \(killed with seed 6\); run it again"),
    ],
)
def test_the_failure_of_one_stops_the_other(tmp_path, name, said):
    with pytest.raises(PalateError, match=said):
        train_side_by_side(runs(tmp_path, "waits", name), lambda line: None)
    if (tmp_path / "waits" / "pid").exists():  # else it was stopped before it came so far
        assert not is_running(tmp_path / "waits")


def test_an_interrupt_stops_both(tmp_path):
    def interrupt(line):
        if "seed 5" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_side_by_side(runs(tmp_path, "waits"), interrupt)
    assert not is_running(tmp_path / "waits")


STARTER = """
import json, sys
from pathlib import Path
from palate.training import side_by_side
from palate.config.recipe import Recipe
side_by_side._COMMAND = (sys.executable, "-c", sys.argv[1])
side_by_side.train_side_by_side({"waits": (Recipe(), Path(sys.argv[2]))}, lambda line: print(line, flush=True))
"""


def test_no_training_outlives_the_one_who_started_it(tmp_path):
    """A kill that nobody can catch: the system closes what the trainings read."""
    command = [sys.executable, "-c", STARTER, WORKER, str(tmp_path / "waits")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout.readline() == "waits  run with seed 0\n"
        starter.kill()
    for _ in range(500):
        if not is_running(tmp_path / "waits"):
            return
        time.sleep(0.02)
    pytest.fail("the training is still running")


def test_the_recipe_comes_as_it_was_given(tmp_path, monkeypatch):
    echo = "import sys; print(sys.stdin.readline(), end='')"
    monkeypatch.setattr(side_by_side, "_COMMAND", (sys.executable, "-c", echo))
    lines = []
    recipe = Recipe(name="Überall: {ja}", seed=7)
    train_side_by_side({"x": (recipe, tmp_path / "x")}, lines.append)
    given = json.loads(lines[0].removeprefix("x  "))
    assert Recipe.model_validate(given["recipe"]) == recipe
