"""The packaged model: used like a run, for any data, without writing to palate's own folder."""

import json

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import palate
from bookshop import books, ratings, write_rows
from palate.cli.app import app
from palate.data.tabular.settings import OwnData
from palate.errors import DataError, MismatchError
from palate.export.read import read_prompts
from palate.model.named import find_model
from palate.runs.run import PackagedRun, load_run
from palate.serve.app import create_app
from palate.serve.engine import ServedModel
from palate.serve.settings import ServeSettings
from tiny import prepare_tiny, unbound_model


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped") / "packaged"
    unbound_model().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def packaged(shipped, monkeypatch):
    """A tiny model in the place of the shipped one; nothing is added to its folder."""
    monkeypatch.setattr("palate.runs.run.PACKAGED_FOLDER", shipped)
    before = sorted(shipped.rglob("*"))
    yield
    assert sorted(shipped.rglob("*")) == before


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    return prepare_tiny(tmp_path_factory.mktemp("other"), users=40, movies=50, seed=5)


def run(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def model(shipped, tiny_data):
    return palate.load_model(shipped, data=tiny_data, device="cpu")


def test_its_name_stands_for_the_shipped_folder(shipped, tiny_data, model):
    assert isinstance(load_run("packaged"), PackagedRun)
    named = palate.load_model("packaged", data=tiny_data.path, device="cpu")
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    assert named.generate(histories) == model.generate(histories)
    assert named.settings.data_fingerprint == tiny_data.info.fingerprint


def test_it_asks_for_data():
    for arguments in (
        ["generate", "packaged", "--user", "1"],
        ["serve", "packaged"],
        ["questions", "packaged"],
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert "name a dataset with --data" in done.output
    done = CliRunner().invoke(app, ["evaluate", "packaged"])
    assert (done.exit_code, "no training data; name a dataset with --data" in done.output) == (2, True)
    with pytest.raises(MismatchError, match="has no catalogue of its own; name a dataset with --data"):
        find_model("packaged")


def test_without_its_files_it_is_told(tmp_path, monkeypatch, tiny_data):
    monkeypatch.setattr("palate.runs.run.PACKAGED_FOLDER", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no model here"):
        palate.load_model("packaged", data=tiny_data)


def test_generate_and_export_and_serve_read_the_same(tiny_data, model, tmp_path):
    user = tiny_data.user_ids[7]
    (history,) = tiny_data.histories([user])
    text = model.generate([history])[0]
    said = run("generate", "packaged", "--data", tiny_data.path, "--user", user)
    assert said.stdout.strip() == text.strip()

    written = tmp_path / "me.json"
    events = [
        dict(zip(("item_id", "rating"), pair, strict=True))
        for pair in zip(history.item_ids, history.ratings, strict=True)
    ]
    written.write_text(json.dumps(events))
    said = run("generate", "packaged", "--data", tiny_data.path, "--history", written)
    assert said.stdout.strip() == text.strip()

    run("export", "packaged", "--data", tiny_data.path, "--user", user, "--out", tmp_path / "prompts")
    exported = read_prompts(tmp_path / "prompts")
    assert exported.user_prompt(user).shape == model.encode([history]).split()[0].shape
    assert exported.manifest.model.population == model.summary.digest

    settings = ServeSettings(run="packaged", store=str(tmp_path / "users.sqlite"), data=tiny_data.path)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as server:
        answered = server.post("/answers", json={"questions": [{"history": events}]}).json()
    assert [one["text"] for one in answered["answers"]] == [text]


def test_evaluate_scores_it_on_any_data(other_data):
    shown = run(
        "evaluate", "packaged", "rule", "--data", other_data.path, "--window", "5", "--users", "all", "--json"
    )
    (scores,) = json.loads(shown.stdout)["evaluations"]
    assert "packaged" in [one["name"] for one in scores["predictors"]]
    assert scores["setting"]["kind"] == "random"


def test_questions_are_asked_of_it(tiny_data, tmp_path):
    out = tmp_path / "questions.json"
    run("questions", "packaged", "--data", tiny_data.path, "--users", 4, "--out", out)
    assert json.loads(out.read_text())


def test_the_population_is_part_of_what_a_server_keeps_prompts_by(tiny_data, other_data, shipped):
    identities = {ServedModel(shipped, data=data.path).identity for data in (tiny_data, other_data)}
    assert len(identities) == 2
    assert ServedModel(shipped, data=tiny_data.path).identity in identities


def test_a_summary_is_written_with_the_model_and_replaced(tiny_data, other_data, tmp_path, model):
    run("summarise", "packaged", "--data", tiny_data.path, "--out", tmp_path / "mine")
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    mine = palate.load_model(tmp_path / "mine", device="cpu")
    assert mine.generate(histories) == model.generate(histories)
    assert mine.summary.digest == model.summary.digest

    before = ServedModel(tmp_path / "mine").identity
    run("summarise", tmp_path / "mine", "--data", tiny_data.path, "--bare")
    bare = palate.load_model(tmp_path / "mine", device="cpu").summary
    assert bare.decisions is None
    assert bare.digest == mine.summary.decided(None).digest
    assert ServedModel(tmp_path / "mine").identity != before


def test_a_summary_has_a_place_and_is_of_the_models_data(shipped, tiny_data, tmp_path):
    done = CliRunner().invoke(app, ["summarise", "packaged", "--data", str(tiny_data.path)])
    assert (done.exit_code, "'--out'" in done.output) == (2, True)
    run("summarise", "packaged", "--data", tiny_data.path, "--out", tmp_path / "mine")
    bookshop = (
        write_rows(ratings(books()), tmp_path / "events.csv"),
        write_rows(books(), tmp_path / "items.csv"),
    )
    columns = {"user": "reader", "rating": "stars", "title": "name", "category": "subjects"}
    palate.prepare(bookshop[0], tmp_path / "shop", items=bookshop[1], own=OwnData(**columns))
    done = CliRunner().invoke(app, ["summarise", str(tmp_path / "mine"), "--data", str(tmp_path / "shop")])
    assert (done.exit_code, "summary has the categories Cooking" in done.output) == (2, True)
