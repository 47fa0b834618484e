"""palate pretrain: reproducible to the byte, with atomic output."""

import hashlib

import pytest
from typer.testing import CliRunner

from palate.cli import app

TINY = """
network:
  network: {kind: universal, d_model: 8, num_layers: 1, num_heads: 2}
  steps: 3
  populations: 1
  batch_size: 16
language: {d_model: 32, d_ff: 16, num_layers: 1, vocab_size: 400, catalogues: 10,
  steps: 2, entity_steps: 2, entity_populations: 1, groups: 1, users: 2, name_tokens: [8]}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrain.yaml").write_text(TINY)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["pretrain", *arguments])


def test_a_recipe_makes_the_same_model_twice(recipe):
    for out in ("one", "two"):
        done = run("pretrain.yaml", "--out", out)
        assert done.exit_code == 0, done.output
    digests = [
        {
            path.relative_to(recipe / out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((recipe / out).rglob("*"))
            if path.is_file()
        }
        for out in ("one", "two")
    ]
    assert digests[0] == digests[1]
    assert "model.safetensors" in digests[0]


def test_mistakes_are_told_before_the_work(recipe):
    (recipe / "wrong.yaml").write_text("network: {stepz: 3}\n")
    done = run("wrong.yaml", "--out", "one")
    assert done.exit_code == 2
    assert "wrong.yaml" in done.output
    assert "stepz" in done.output
    (recipe / "full").mkdir()
    (recipe / "full" / "file").touch()
    done = run("pretrain.yaml", "--out", "full")
    assert done.exit_code == 2
    assert "full is not empty" in done.output
    assert not (recipe / "one").exists()


def test_the_recipe_of_the_repository_is_valid():
    from pathlib import Path

    from palate.pretraining.settings import Pretraining

    found = Pretraining.load(Path(__file__).parents[2] / "recipes" / "pretrain.yaml")
    assert found.threads == 1
