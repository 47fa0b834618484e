"""``palate doctor``: versions, missing extras, and problems of the installation."""

import importlib.metadata
import json
import sys

import pytest
from typer.testing import CliRunner

from palate.cli import app
from palate.system import caches, diagnosis
from palate.system.extras import EXTRAS, install_line


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    monkeypatch.setattr(caches.platformdirs, "user_cache_path", lambda _: tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def run(*arguments):
        return CliRunner().invoke(app, ["doctor", *arguments])

    return run


def test_a_whole_installation_has_no_problem(doctor):
    done = doctor()
    assert done.exit_code == 0, done.output
    assert f"palate {importlib.metadata.version('palate')}" in done.output
    assert "No problems found." in done.output
    assert all(name in done.output for name in EXTRAS)


def test_a_missing_extra_is_named_with_its_purpose_and_its_command(doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    found = json.loads(doctor("--json").output)
    (lora,) = [one for one in found["extras"] if one["name"] == "lora"]
    assert lora == {
        "name": "lora",
        "needed_for": EXTRAS["lora"].needed_for,
        "installed": False,
        "missing": ["peft"],
        "install": install_line("lora"),
    }
    assert found["problems"] == []
    assert install_line("lora") in doctor().output.replace("\n", "") or "[lora]" in doctor().output


def test_caches_are_measured(doctor, tmp_path):
    (folder := tmp_path / "cache" / "item-vectors" / "abc").mkdir(parents=True)
    (folder / "one.bin").write_bytes(bytes(3_000_000))
    (tmp_path / "hub" / "blobs").mkdir(parents=True)
    (tmp_path / "hub" / "blobs" / "x").write_bytes(bytes(1000))
    (tmp_path / "hub" / "link").symlink_to(tmp_path / "hub" / "blobs" / "x")
    sizes = {one["path"]: one["size_bytes"] for one in json.loads(doctor("--json").output)["caches"]}
    assert sizes[str(folder.parent)] == 3_000_000
    assert sizes[str(tmp_path / "cache" / "gguf")] is None
    link = (tmp_path / "hub" / "link").lstat().st_size
    assert sizes[str(tmp_path / "hub")] == 1000 + link
    assert "2.9 MiB" in doctor().output


@pytest.mark.parametrize(
    ("version", "told"),
    [("9.9", "torch: 9.9 is installed, expected"), (None, "torch: it is not installed, expected")],
)
def test_a_version_out_of_its_range_is_a_problem_with_its_command(doctor, monkeypatch, version, told):
    real = diagnosis.installed_version
    monkeypatch.setattr(
        diagnosis, "installed_version", lambda name: version if name == "torch" else real(name)
    )
    done = doctor("--json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert done.exit_code == 1
    assert problem.startswith(told)
    assert 'install "torch' in problem


def test_a_torch_that_cannot_be_loaded_is_a_problem_and_the_rest_is_shown(doctor, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    done = doctor()
    assert done.exit_code == 1
    assert "problem: torch cannot be loaded" in done.output
    assert "caches" in done.output


def test_a_build_for_gpus_without_one_is_noted(doctor, monkeypatch):
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = json.loads(doctor("--json").output)
    assert found["problems"] == []
    (note,) = found["notes"]
    assert "https://download.pytorch.org/whl/cpu" in note


def test_a_gpu_is_the_default(doctor, monkeypatch):
    class Properties:
        total_memory = 80 * 2**30

    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda index=None: "H100",
        "get_device_properties": lambda index: Properties,
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", value)
    found = json.loads(doctor("--json").output)
    assert [one["name"] for one in found["devices"]] == ["cpu", "cuda:0", "cuda:1"]
    assert found["devices"][1]["what"] == "H100, 80 GiB"
    assert found["default_device"] == "cuda:0"


def test_a_hub_that_is_switched_off_is_said(doctor, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "switched off by HF_HUB_OFFLINE" in doctor().output
