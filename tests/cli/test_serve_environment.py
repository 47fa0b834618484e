"""Every option of ``palate serve`` can be set by an environment variable."""

import sys
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from palate.cli import app
from palate.cli.options import variable_of
from palate.serve.settings import EngineSettings, Limits, ServeSettings

COMMAND = typer.main.get_command(app).commands["serve"]
OPTIONS = {one.name: one for one in COMMAND.params if one.param_type_name == "option" and one.name != "help"}
GIVEN = {
    "store": ("users.sqlite", {"store": "users.sqlite"}),
    "recommender": ("rec", {"recommender": "rec"}),
    "backbone": ("folder", {"backbone": "folder"}),
    "device": ("cpu", {"device": "cpu"}),
    "writer": ("packaged:gemma3-270m", {"writer": "packaged:gemma3-270m"}),
    "data": ("mine", {"data": "mine"}),
    "engine": ("http://127.0.0.1:8001", {"engine": EngineSettings(url="http://127.0.0.1:8001")}),
    "previous": ("old", {"previous": "old"}),
    "previous_recommender": ("old-rec", {"previous_recommender": "old-rec"}),
    "host": ("::1", {"host": "::1"}),
    "port": ("8123", {"port": 8123}),
    "workers": ("3", {"workers": 3}),
    "api_key_file": ("keys.txt", {"key_file": "keys.txt"}),
    "retention": ("30.5", {"retention_days": 30.5}),
    "limit": ("seconds=60 batch=8", {"limits": Limits(seconds=60, batch=8)}),
    "log_content": ("1", {"log_content": True}),
}
"""A value of each option as the environment has it, and the settings that it makes."""


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Calls the command; gives the settings that would be served."""
    given = []
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        sys.modules, "palate.serve.run", SimpleNamespace(serve=lambda settings, _: given.append(settings))
    )
    monkeypatch.delenv("PALATE_STORE", raising=False)

    def call(*arguments):
        done = CliRunner().invoke(app, ["serve", *arguments])
        assert done.exit_code == 0, done.output
        return given[-1]

    return call


def expected(**changes):
    return ServeSettings(**{"run": "runs/mine", "store": "runs/mine/users.sqlite", **changes})


def test_each_option_is_tried():
    assert set(GIVEN) | {"engine_model"} == set(OPTIONS)


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_is_read_from_its_variable(serve, monkeypatch, name):
    assert serve("runs/mine") != expected(**GIVEN[name][1])
    (flag,) = OPTIONS[name].opts
    monkeypatch.setenv(f"PALATE_SERVE_{flag.removeprefix('--').replace('-', '_').upper()}", GIVEN[name][0])
    changes = GIVEN[name][1]
    if name == "data":  # which does not change where the users are
        changes = {**changes, "store": "runs/mine/users.sqlite"}
    assert serve("runs/mine") == expected(**changes)


def test_the_run_and_the_engines_model_are_read_too(serve, monkeypatch):
    monkeypatch.setenv("PALATE_SERVE_RUN", "runs/mine")
    monkeypatch.setenv("PALATE_SERVE_ENGINE", "http://127.0.0.1:8001")
    monkeypatch.setenv("PALATE_SERVE_ENGINE_MODEL", "taste")
    assert serve() == expected(engine=EngineSettings(url="http://127.0.0.1:8001", model="taste"))


def test_the_command_line_goes_before_the_environment(serve, monkeypatch):
    monkeypatch.setenv("PALATE_SERVE_PORT", "8123")
    monkeypatch.setenv("PALATE_SERVE_RUN", "runs/other")
    assert serve("runs/mine", "--port", "9000") == expected(port=9000)


def test_the_store_is_found_as_by_other_commands(serve, monkeypatch):
    monkeypatch.setenv("PALATE_STORE", "shared.sqlite")
    assert serve("runs/mine").store == "shared.sqlite"
    monkeypatch.setenv("PALATE_SERVE_STORE", "own.sqlite")
    assert serve("runs/mine").store == "own.sqlite"


def test_an_empty_variable_is_none(serve, monkeypatch):
    monkeypatch.setenv("PALATE_SERVE_PORT", "")
    assert serve("runs/mine") == expected()


def test_a_wrong_value_is_told_with_its_variable(monkeypatch):
    monkeypatch.setenv("PALATE_SERVE_PORT", "many")
    done = CliRunner().invoke(app, ["serve", "runs/mine"])
    assert done.exit_code == 2
    assert "PALATE_SERVE_PORT" in " ".join(done.stderr.split())


def test_the_help_names_the_variable_of_every_option():
    help_ = "".join(CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output.split())
    for name in ("run", *OPTIONS):
        assert variable_of("serve", name) in help_
