"""Warnings about a training are the same wherever its model is used."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from palate.cli import app
from palate.model.config import model_settings
from palate.model.model import PersonalizedModel
from palate.serve import run as serving
from palate.serve.settings import ServeSettings
from palate.training.train import train_run
from tiny import tiny_recipe


@pytest.fixture(scope="module")
def weak(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    """A run whose answers nobody can read, and what it says of itself."""
    place = tmp_path_factory.mktemp("weak")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PersonalizedModel, "answer", lambda _, windows, *__, **___: ["blah"] * len(windows))
        recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, place / "cache", train={"max_steps": 1})
        out = train_run(recipe, place / "run")
    (warning,) = model_settings(out).training.warnings()
    assert "train.max_steps (it had 1)" in warning
    return out, warning


@pytest.mark.parametrize("windows", ["10", "5,10"])
def test_evaluate_says_it_beside_the_scores(weak, windows):
    run, warning = weak
    done = CliRunner().invoke(app, ["evaluate", str(run), "--bare", "--window", windows])
    assert done.exit_code == 0, done.output
    assert f"warning: run: {warning}\n" in done.stderr
    if windows == "10":
        assert json.loads((run / "metrics.json").read_text())["warnings"] == [f"run: {warning}"]


def test_the_server_says_it_when_it_starts(weak, tmp_path, monkeypatch):
    run, warning = weak
    server = SimpleNamespace(run=lambda sockets: None, started=True)
    monkeypatch.setattr(serving.uvicorn, "Server", lambda config: server)
    monkeypatch.setattr(
        serving.signal, "signal", lambda *_: None
    )  # or this process ignores SIGTERM ever after
    lines = []
    serving.serve(ServeSettings(run=run, store=str(tmp_path / "users.sqlite"), port=0), lines.append)
    assert f"warning: {warning}" in lines
