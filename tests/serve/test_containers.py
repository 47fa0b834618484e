"""The Dockerfiles and compose.yaml refer to existing files, extras, options, services and networks."""

import json
import re
from pathlib import Path

import pytest
import tomllib
import typer
import yaml

from palate.cli import app

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(path):
    """Instructions of a Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
    return [line.split(" ", 1) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dockerfile_copies_installs_and_starts_what_there_is(path):
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    steps = instructions(path)
    copied = [
        name for kind, rest in steps if kind == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    ]
    assert set(copied) == kept
    assert all((ROOT / name).exists() for name in copied)
    (installed,) = re.findall(r'"\.\[([\w,]+)\]"', path.read_text())
    assert set(installed.split(",")) <= set(EXTRAS)
    entry, command = (json.loads(rest) for kind, rest in steps if kind in ("ENTRYPOINT", "CMD"))
    assert entry == ["palate"]
    name, *arguments = command
    context = typer.main.get_command(app).commands[name].make_context(name, arguments)
    assert context.params["host"] == "0.0.0.0"
    assert str(context.params["api_key_file"]) == "/run/secrets/palate-keys"
    assert ["USER", "10001"] in steps


def test_both_dockerfiles_differ_in_the_torch_alone():
    cpu, cuda = (instructions(path) for path in FILES)
    assert [one for one, other in zip(cpu, cuda, strict=True) if one != other] == [cpu[4]]
    assert "download.pytorch.org/whl/cpu" in cpu[4][1]


def test_services_of_compose_fit_together():
    services = COMPOSE["services"]
    assert set(services) == {"palate", "postgres", "vllm"}
    assert (ROOT / services["palate"]["build"]["dockerfile"]).is_file()
    assert services["palate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    (store,) = [one for one in services["palate"]["environment"] if one.startswith("PALATE_STORE=")]
    assert store.endswith("@postgres/palate")
    assert {network for one in services.values() for network in one["networks"]} == set(COMPOSE["networks"])
    # neither the users nor an engine that decodes what it is sent can be reached from outside
    assert [name for name, one in services.items() if "ports" in one] == ["palate"]
    assert COMPOSE["networks"]["inside"]["internal"]
    images = (one["image"] for one in services.values() if "build" not in one)
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)
    assert services["palate"]["volumes"][0]["target"] == "/runs/served"
    assert services["palate"]["secrets"] == list(COMPOSE["secrets"])
