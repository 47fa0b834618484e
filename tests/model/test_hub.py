"""Models and recommenders on the hub: uploaded, named like runs, refused in one line; against a local fake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import palate
from hub_server import hub_server
from palate.config.recipe import Recipe
from palate.errors import DataError, MismatchError
from palate.model.model import PersonalizedModel
from palate.recommend.train import train_recommender
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

    def run(code, *arguments, **environment):
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
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
    assert 'palate.load_model("ann/taste", data=data)' in card

    server.asked.clear()
    again = asked("import palate; palate.load_model('ann/taste', device='cpu')")
    assert again.returncode == 0, again.stderr
    assert not [path for method, path in server.asked if method == "GET" and "/resolve/" in path]  # cached
    offline = asked("import palate; palate.load_model('ann/taste', device='cpu')", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr


RECOMMENDERS = """
import sys
import palate
from palate.recommend.recommender import Recommender

run, data = sys.argv[1:]
recommender, dataset = palate.load_recommender(run), palate.load_dataset(data)
recommender.push_to_hub("ann/list", licence="cc-by-4.0")
histories = dataset.histories(dataset.user_ids[:3])
for loaded in (palate.load_recommender("ann/list"), Recommender.from_pretrained("ann/list")):
    assert loaded.recommend(histories, 5) == recommender.recommend(histories, 5)
    assert loaded.rate(histories, dataset.item_ids[:4]) == recommender.rate(histories, dataset.item_ids[:4])
palate.load_recommender("ann/list").with_items([palate.Item("new", "A new one", ("Drama",))]).push_to_hub("ann/more")
assert "new" in palate.load_recommender("ann/more").item_ids
"""
COMMANDS = """
import json, sys
from typer.testing import CliRunner
from palate.cli.app import app

done = [CliRunner().invoke(app, command) for command in json.loads(sys.argv[1])]
print(json.dumps([[one.exit_code, one.stdout, one.stderr] for one in done]))
"""


def commands(asked, *some):
    """Runs commands in one process; gives their exit codes, outputs and messages."""
    done = asked(COMMANDS, json.dumps([[str(part) for part in one] for one in some]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_recommender_goes_to_the_hub_and_its_name_is_one_of_a_run(hub, asked, tiny_data, tmp_path):
    server, _ = hub
    settings = {"texts": False, "rounds": 1, "rating_rank": 2, "rating_iterations": 3}
    recipe = Recipe(data={"path": tiny_data.path}, recommend=settings, train={"threads": 1})
    run = train_recommender(recipe, tmp_path / "runs" / "recommender")
    done = asked(RECOMMENDERS, run, tiny_data.path)
    assert done.returncode == 0, done.stderr
    files = server.files("ann/list")
    assert {
        "recommender.json",
        "recommender.safetensors",
        "items.parquet",
        "recipe.yaml",
        "README.md",
    } <= set(files)
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "palate"
    assert metadata["license"] == "cc-by-4.0"
    assert 'palate.load_recommender("ann/list")' in card
    for name, content in files.items():
        assert str(tmp_path).encode() not in content, name  # where it lay is nobody's business

    whole = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    server.repositories["ann/whole"] = {"main": whole}  # as  hf upload ann/whole runs/recommender  does
    found = asked("import palate; print(palate.load_recommender('ann/whole').run.name)")
    assert found.stdout == "ann/whole\n", found.stderr

    user, item = tiny_data.user_ids[0], tiny_data.item_ids[0]
    given = ("--data", tiny_data.path)
    (tmp_path / "users").write_text(f"{user}\n")
    (tmp_path / "asked").write_text("What should I recommend to this user?\n")
    *listed, refused = commands(
        asked,
        ("recommend", "ann/list", "--user", user, *given, "--json"),
        ("recommend", run, "--user", user, *given, "--json"),
        ("rate", "ann/list", "--user", user, "--item", item, *given),
        ("recommend", "ann/list", "--users", "users", *given, "--out", "lists.csv"),
        ("answers", "ann/list", "--users", "users", "--questions", "asked", *given, "--out", "answers.csv"),
        ("rank", "popularity", "ann/list", *given, "--protocol", "new-users"),
        ("serve", "ann/list"),
    )
    assert [code for code, _, _ in listed] == [0] * len(listed), listed
    assert listed[0][1] == listed[1][1]
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.suffix in (".csv", ".sqlite")]
    assert refused[0] != 0
    assert "ann/list has no folder for a user store; name a dataset with --data" in "".join(refused[1:])


GENERATIVE = """
import sys
import numpy as np
import palate
from palate.data.protocols import make_split
from palate.generative.recommender import GenerativeRecommender

run, data = sys.argv[1:]
ours = GenerativeRecommender.from_pretrained(run)
ours.push_to_hub("ann/p5", licence="cc-by-4.0")
cases = make_split(palate.load_dataset(data), "leave-last-out").test[np.arange(3)]
found = GenerativeRecommender.from_pretrained("ann/p5")
for left, right in zip((ours, found), (found, ours)):
    assert np.array_equal(*(one.item_scores(cases.windows, cases.user_index) for one in (left, right)))
assert found.facts == ours.facts and found.training == ours.training and found.run.name == "ann/p5"
found.push_to_hub("ann/again")
assert GenerativeRecommender.from_pretrained("ann/again").training.steps == 2
"""


def test_a_p5_goes_to_the_hub_and_its_name_is_one_of_a_run(hub, asked, tiny_data, tmp_path):
    t5 = {"kind": "random-t5", "d_model": 16, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300}
    recipe = {
        "data": {"protocol": "leave-last-out"},
        "model": {"backbone": t5},
        "generative": {"kind": "p5", "families": {"sequential": 1, "rating": 1}, "max_history": 3},
        "train": {
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "eval_steps": 1,
            "eval_users": 3,
            "threads": 1,
        },
    }
    run = tmp_path / "runs" / "p5"
    trained = palate.train(recipe, tiny_data, run)
    assert (trained.training.steps, trained.training.score) == (2, "NDCG@50")
    assert "license" not in yaml.safe_load(trained.card.split("---")[1])
    done = asked(GENERATIVE, run, tiny_data.path)
    assert done.returncode == 0, done.stderr
    files = hub[0].files("ann/p5")
    assert {"generative.json", "generative.safetensors", "recipe.yaml", "manifest.json", "README.md"} <= set(
        files
    )
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert (metadata["library_name"], metadata["license"]) == ("palate", "cc-by-4.0")
    assert "p5" in metadata["tags"]
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(trained.training.dev, 4)
    assert 'GenerativeRecommender.from_pretrained("ann/p5")' in card
    for name, content in files.items():
        assert str(tmp_path).encode() not in content, name
    (ranked,) = commands(asked, ("rank", "popularity", "ann/p5", "--data", tiny_data.path, "--json"))
    assert ranked[0] == 0, ranked
    assert {one["name"] for one in json.loads(ranked[1])["rankers"]} == {"popularity", "ann/p5"}


PEPLER = """
import sys
import palate
from palate.generative.pepler_answers import explain_items
from palate.generative.pepler_files import TrainedPepler

run, user, item = sys.argv[1:]
ours = TrainedPepler.from_pretrained(run)
ours.push_to_hub("ann/pepler")
found = TrainedPepler.from_pretrained("ann/pepler")
assert explain_items(found, user, [item]) == explain_items(ours, user, [item])
assert found.record == ours.record and found.run.name == "ann/pepler"
"""


def test_a_pepler_goes_to_the_hub_and_its_card_says_what_it_holds(hub, asked, tmp_path):
    from bookshop import write_rows
    from palate.data.prepare import prepare

    rows = [
        {"user": f"u{user}", "item": f"i{(user + at) % 9}", "rating": 2.0 + at % 3}
        | {"review_text": f"item {at} of {user}", "time": 10 * at + user}
        for user in range(12)
        for at in range(5)
    ]
    data = prepare(write_rows(rows, tmp_path / "r.jsonl"), tmp_path / "data", dev_share=0.2, test_share=0.2)
    small = {"kind": "random-causal", "d_model": 16, "num_heads": 2, "num_layers": 1, "vocab_size": 300}
    recipe = {
        "pepler": {"backbone": small, "rating": "mf", "max_words": 4, "prompt_steps": 2, "tuning_steps": 2},
        "train": {"per_device_train_batch_size": 4, "eval_steps": 2, "threads": 1},
    }
    run = tmp_path / "runs" / "pepler"
    trained = palate.train(recipe, data, run)
    assert trained.record.data_name == data.info.name
    done = asked(PEPLER, run, data.user_ids[0], data.item_ids[0])
    assert done.returncode == 0, done.stderr
    files = hub[0].files("ann/pepler")
    assert {"pepler.json", "pepler.safetensors", "backbone/config.json", "recipe.yaml", "README.md"} <= set(
        files
    )
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "text-generation"
    assert "It holds the ids of its users and a learned vector of each" in card
    for name, content in files.items():
        assert str(tmp_path).encode() not in content, name
    user, item = data.user_ids[0], data.item_ids[0]
    (told,) = commands(asked, ("explain", "ann/pepler", "--user", user, "--item", item, "--json"))
    assert told[0] == 0, told


def test_a_run_that_was_uploaded_is_evaluated_by_its_name(
    hub, asked, tiny_data, tiny_sentence_encoder, tmp_path
):
    from palate.training.train import train_run
    from tiny import tiny_recipe

    recipe = tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", train={"max_steps": 2, "eval_steps": 2}
    )
    run = train_run(recipe, tmp_path / "runs" / "mine")
    done = asked("import sys, palate; palate.load_model(sys.argv[1]).push_to_hub('ann/mine')", run)
    assert done.returncode == 0, done.stderr
    shared = yaml.safe_load(hub[0].files("ann/mine")["recipe.yaml"])
    assert Path(shared["data"]["path"]) == Path("data") / tiny_data.info.name
    given = ("--data", tiny_data.path, "--json", "--bare", "--users", "all")
    named, there, without = commands(
        asked,
        ("evaluate", "ann/mine", *given),
        ("evaluate", run, *given),
        ("evaluate", "ann/mine"),
    )
    assert named[0] == there[0] == 0, named
    ours, theirs = (json.loads(one[1])["evaluations"][0]["predictors"] for one in (named, there))
    assert [one.pop("name") for one in ours] == ["ann/mine"]
    assert [one.pop("name") for one in theirs] == ["mine"]
    for one in (*ours, *theirs):
        for timed in [key for key in one if "second" in key]:
            del one[timed]
    assert ours == theirs
    assert not list((tmp_path / "hub").rglob("metrics.json"))
    assert without[0] != 0
    assert "the data of the run is not at" in "".join(without[1:])


def test_a_model_that_was_saved_without_its_run_says_what_is_missing(tmp_path):
    unbound_model().save_pretrained(tmp_path / "model")
    with pytest.raises(DataError, match="a model without its run, so that how it was trained is not known"):
        palate.evaluate([str(tmp_path / "model")])


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
    (tmp_path / "mine").mkdir()
    for path in ("runs/misspelt", "mine/misspelt"):
        assert not is_hub_name(path)
        with pytest.raises(DataError, match=f"{path}: the folder does not exist"):
            palate.load_model(path)
    with pytest.raises(DataError, match="no model here"):
        palate.load_model("mine")


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
