"""Extras: names as in pyproject.toml, and install commands for every origin of palate."""

import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from palate.system import extras
from palate.system.extras import (
    EXTRAS,
    add_line,
    install_line,
    installed_from,
    missing_extra,
    missing_modules,
)

ROOT = Path(__file__).parents[2]
FOR_DEVELOPERS = {"dev", "dist", "docs"}


@pytest.fixture
def noted(monkeypatch):
    """Pretends that an installer noted this origin, or that palate is not installed."""

    def note(origin, installer="pip\n"):
        class Noted:
            def read_text(self, name):
                texts = {"direct_url.json": origin and json.dumps(origin), "INSTALLER": installer}
                return texts[name]

        def distribution(name):
            if origin == "not installed":
                raise importlib.metadata.PackageNotFoundError(name)
            return Noted()

        monkeypatch.setattr(extras.importlib.metadata, "distribution", distribution)
        clear()

    yield note
    monkeypatch.undo()
    clear()


def clear():
    extras._origin.cache_clear()
    extras._installer.cache_clear()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "my palate").mkdir()
    (tmp_path / "my palate" / "pyproject.toml").touch()
    return tmp_path / "my palate"


def test_every_extra_for_users_is_known_and_no_other():
    _, _, after = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")
    declared = set(re.findall(r"^(\w+) = \[", after.split("\n[")[0], re.MULTILINE))
    assert set(EXTRAS) == declared - FOR_DEVELOPERS


@pytest.mark.parametrize("name", EXTRAS)
def test_the_modules_of_an_extra_come_with_its_packages(name):
    """What is looked for is what the extra's packages bring, where they are installed."""
    brought = importlib.metadata.packages_distributions()
    wanted = required_by(name)
    for module in set(EXTRAS[name].modules) - set(missing_modules(name)):
        assert {canonicalize_name(one) for one in brought[module.split(".")[0]]} & wanted, module


def required_by(extra):
    """The packages of an extra in pyproject.toml, and of those that it includes."""
    (listed,) = re.findall(rf"^{extra} = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    found = [Requirement(one) for one in re.findall(r'"([^"]+)"', listed)]
    included = [required_by(name) for one in found if one.name == "palate" for name in one.extras]
    return {canonicalize_name(one.name) for one in found}.union(*included)


def test_a_line_for_a_checkout_names_its_folder(noted, checkout, monkeypatch):
    noted({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    assert installed_from() == str(checkout)
    assert install_line("lora") == f'pip install -e "{checkout}[lora]"'
    monkeypatch.chdir(checkout)
    assert install_line("lora") == 'pip install -e ".[lora]"'
    noted({"url": checkout.as_uri(), "dir_info": {}})
    assert install_line("lora") == 'pip install ".[lora]"'


def test_a_line_for_an_index_names_the_package(noted, checkout):
    noted(None)
    assert (installed_from(), install_line("lora")) == ("an index", 'pip install "palate[lora]"')
    (checkout / "pyproject.toml").unlink()  # the checkout is gone
    noted({"url": checkout.as_uri(), "dir_info": {}})
    assert install_line("lora") == 'pip install "palate[lora]"'


def test_a_line_for_a_repository_names_its_commit(noted):
    noted({"url": "https://host.example/palate", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}})
    assert install_line("lora") == 'pip install "palate[lora] @ git+https://host.example/palate@c0ffee"'


def test_a_line_for_a_wheel_names_it_while_it_is_there(noted, tmp_path):
    wheel = tmp_path / "palate-1-py3-none-any.whl"
    wheel.touch()
    noted({"url": wheel.as_uri(), "archive_info": {}})
    assert install_line("lora") == f'pip install "palate[lora] @ {wheel.as_uri()}"'
    wheel.unlink()
    noted({"url": wheel.as_uri(), "archive_info": {}})
    assert install_line("lora") == 'pip install "palate[lora]"'


def test_a_checkout_that_is_not_installed_is_named(noted):
    noted("not installed")
    assert installed_from() == str(ROOT)
    place = "." if Path.cwd() == ROOT else str(ROOT)
    assert install_line("lora") == f'pip install -e "{place}[lora]"'


def test_uv_is_named_where_it_installed_palate(noted):
    noted(None, installer="uv")
    assert install_line("serve") == 'uv pip install "palate[serve]"'
    assert add_line("torch>=2", "--upgrade") == 'uv pip install --upgrade "torch>=2"'


def test_missing_modules_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert missing_modules("lora") == ("peft",)
    assert str(missing_extra("LoRA needs peft", "lora")) == (
        f"LoRA needs peft, which is not installed; run  {install_line('lora')}"
    )


def test_nothing_else_words_an_install():
    """One place knows how palate is installed; the demo's report says how its reader would begin."""
    said = [path for path in (ROOT / "src").rglob("*.py") if "pip install" in path.read_text()]
    assert {path.name for path in said} <= {"page.py"}
