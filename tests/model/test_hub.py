"""Models on the hub: uploaded, loaded by name, and refused in one line; against a local fake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import palate
from hub_server import hub_server
from palate.errors import DataError, MismatchError
from palate.model.model import PersonalizedModel
from palate.system.hub import is_hub_name
from tiny import unbound_model

TESTS = Path(__file__).parents[1]
SCRIPT = """
import sys
import torch
import palate
from palate.model.model import PersonalizedModel
from tiny import unbound_model

model = unbound_model(seed=3)
first = model.push_to_hub("ann/taste", licence="cc-by-4.0")
unbound_model(seed=4).push_to_hub("ann/taste", revision="next", commit_message="Another seed")
for revision, seed in ((None, 3), ("next", 4), (first.rpartition("/")[2], 3)):
    loaded = palate.load_model("ann/taste", revision=revision, device="cpu")
    for (name, ours), (_, theirs) in zip(unbound_model(seed=seed).named_parameters(), loaded.named_parameters()):
        assert torch.equal(ours, theirs), name
try:
    PersonalizedModel.from_pretrained("ann/nothing")
except palate.PalateError as error:
    print(error)
try:
    model.push_to_hub("ann/taste", token="hf_wrong")
except palate.PalateError as error:
    print(error)
print(first)
"""


@pytest.fixture
def hub():
    with hub_server() as served:
        yield served


@pytest.fixture
def asked(hub, tmp_path):
    """Runs Python that asks the stand-in, with a cache of its own."""
    _, address = hub

    def run(code, **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)]),
                "HF_ENDPOINT": address,
                "HF_HOME": str(tmp_path / "hub"),
                "HF_TOKEN": "hf_right",
                "HF_HUB_OFFLINE": "0",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_model_goes_to_the_hub_and_is_loaded_by_its_name(hub, asked, tmp_path):
    server, address = hub
    server.token = "hf_right"
    done = asked(SCRIPT)
    assert done.returncode == 0, done.stderr
    nothing, refused, url = done.stdout.splitlines()
    assert nothing.startswith("ann/nothing: not a folder, and could not be loaded from the hub (")
    assert refused.startswith(f"ann/taste cannot be written to the hub {address} (")
    assert url.startswith(f"{address}/ann/taste/commit/")
    files = server.files("ann/taste")
    assert {"config.json", "model.safetensors", "README.md", "backbone/config.json"} <= set(files)
    assert server.files("ann/taste", "next")["model.safetensors"] != files["model.safetensors"]
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "palate"
    assert metadata["license"] == "cc-by-4.0"
    assert 'palate.load_model("ann/taste")' in card

    server.asked.clear()
    again = asked("import palate; palate.load_model('ann/taste', device='cpu')")
    assert again.returncode == 0, again.stderr
    assert not [path for method, path in server.asked if method == "GET" and "/resolve/" in path]  # cached
    offline = asked("import palate; palate.load_model('ann/taste', device='cpu')", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(asked):
    done = asked("import palate; palate.load_model('ann/taste')", HF_ENDPOINT="http://127.0.0.1:9")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "palate.errors.DataError: ann/taste: not a folder, and could not be loaded from the hub ("
    )


def test_only_what_no_folder_is_called_is_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("ann/taste")
    assert not any(map(is_hub_name, ("packaged", "a/b/c", "/ann/taste", "../ann", "~/ann", "ann/")))
    (tmp_path / "runs").mkdir()
    assert not is_hub_name("runs/misspelt")
    with pytest.raises(DataError, match="no model here"):
        palate.load_model("runs/misspelt")


def test_a_folder_has_no_revision(tmp_path):
    unbound_model().save_pretrained(tmp_path / "model")
    with pytest.raises(MismatchError, match="which has no revision 'v1'"):
        PersonalizedModel.from_pretrained(tmp_path / "model", revision="v1")


def test_the_card_has_the_hubs_metadata(tiny_data, tiny_sentence_encoder, tmp_path):
    from palate.training.train import train_run
    from tiny import tiny_recipe

    recipe = tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", train={"max_steps": 2, "eval_steps": 2}
    )
    model = palate.load_model(train_run(recipe, tmp_path / "run"))
    metadata = yaml.safe_load(model.card.split("---")[1])
    assert metadata["pipeline_tag"] == "text-generation"
    assert "license" not in metadata
    (result,) = metadata["model-index"][0]["results"]
    (metric,) = result["metrics"]
    dev = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["training"]["dev"]
    assert metric == {"type": "f1", "value": round(dev["f1"], 4), "name": "liked F1"}
    assert result["dataset"]["type"] == model.settings.data_name
