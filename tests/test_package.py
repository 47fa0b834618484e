"""The installed package: fast to import, complete in the wheel, pinned by the constraints."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import palate

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "polars", "numpy", "pydantic", "yaml")


@pytest.mark.parametrize("statement", ["import palate", "import palate.cli", "import palate; dir(palate)"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from palate.cli import main; sys.argv = ['palate', '--help']\n"
        f"try: main()\nfinally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "prepare" in done.stdout


@pytest.mark.parametrize("name", palate.__all__)
def test_every_public_name_is_there(name):
    assert getattr(palate, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'palate' has no attribute 'tarte'"):
        _ = palate.tarte


def test_the_wheel_holds_types_pages_and_recipes(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "src" / "palate", source / "src" / "palate", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    package = source / "src"
    written = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {name for name in written if "egg-info" not in name} <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_pins_are_exact_and_named_once():
    found = pins()
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in found)
    names = [canonicalize_name(pin.name) for pin in found]
    assert len(set(names)) == len(names)


def test_every_dependency_is_pinned_within_its_range():
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins()}
    wanted = [Requirement(line) for line in importlib.metadata.requires("palate") or ()]
    assert wanted
    for requirement in wanted:
        if requirement.name != "palate":
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_make_help_lists_its_targets():
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "help",
        "demo",
        "test",
        "test-engine",
        "lint",
        "format",
        "docs",
        "dist",
        "clean",
    ]
