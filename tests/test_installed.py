"""palate installed from its wheel: extended by the documents' code, and by a package with entry points."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
TRAIN = """
import sys
from pathlib import Path
import palate
from tiny import prepare_tiny, save_tiny_encoder, tiny_recipe

assert Path(palate.__file__).is_relative_to(sys.argv[1]), palate.__file__
place = Path("runs/demo")
data, encoder = prepare_tiny(place), save_tiny_encoder(Path("encoder"))
steps = {"max_steps": 2, "eval_steps": 2}
palate.train(tiny_recipe(data.path, encoder, Path("cache"), train=steps), out=place / "main")
names = {}
for snippet in Path("snippets.py").read_text().split("# next\\n"):
    exec(snippet, names)
assert "everybody likes drama" in names["scores"].names
model = {"user_encoder": {"kind": "mean", "scale": 2.0}}
mean = palate.train(tiny_recipe(data.path, encoder, Path("cache"), train=steps, model=model), out="runs/mean")
print(mean.generate(data.histories(["1"])))
"""
LOAD = """
import palate
model = palate.load_model("runs/mean")
print(model.generate(palate.load_dataset("runs/demo/data").histories(["1"])))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that palate was installed into from its wheel."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return installed(source, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder that a package was installed into which brings the documents' user encoder by an entry point."""
    source = tmp_path_factory.mktemp("package")
    (entry_points,) = re.findall(r"^```toml\n(.*?)^```$", EXTENDING, re.DOTALL | re.MULTILINE)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "my-package"\nversion = "1"\n' + entry_points
    )
    encoder, registered = (one for one in SNIPPET.findall(EXTENDING) if "Mean" in one)
    call = registered[registered.index("palate.register_user_encoder") :]
    (source / "my_package.py").write_text(
        f"import palate\n{encoder}\n{registered.replace(call, '')}\ndef register_mean():\n    {call}"
    )
    return installed(source, tmp_path_factory.mktemp("packages"))


def installed(source, target):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    wheels = target.parent / f"{target.name}-wheels"
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source], check=True
    )
    subprocess.run([*pip, "install", "--no-deps", "--target", target, *wheels.glob("*.whl")], check=True)
    return target


def run(code, folder, *path):
    """Run Python in a folder, with these folders first on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, str(path[0])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow  # half a minute: a wheel is built, and three processes load the libraries
def test_an_installed_palate_is_extended_by_code_and_by_packages(site, package, tmp_path):
    snippets = SNIPPET.findall((ROOT / "README.md").read_text() + EXTENDING)
    (tmp_path / "snippets.py").write_text("# next\n".join(snippets))
    trained = run(TRAIN, tmp_path, site, ROOT / "tests")
    assert trained.returncode == 0, trained.stderr
    with_it = run(LOAD, tmp_path, site, package)
    assert (with_it.returncode, with_it.stdout) == (0, trained.stdout.splitlines(keepends=True)[-1]), with_it
    without = run(LOAD, tmp_path, site)
    assert without.returncode == 1
    assert "there is no user encoder 'mean'" in without.stderr
    assert "install the package that provides it" in without.stderr
