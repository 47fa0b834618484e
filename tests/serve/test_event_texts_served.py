"""A model that reads what users write of events, as served: prompts, states, answers, exports and deletions."""

import json
from dataclasses import replace

import polars as pl
import pytest
import torch
from safetensors.torch import load
from typer.testing import CliRunner

from palate.cli.app import app
from palate.model.model import load_model
from palate.schema import History
from palate.training.train import train_run
from serving import ENCODERS, ask, expected, prompts_of, sharpen
from tiny import tiny_recipe

EVENTS = [
    {"item_id": "1", "rating": 2, "timestamp": 10, "event_id": "a", "text": "Far too loud and it broke"},
    {"item_id": "2", "rating": 4, "timestamp": 20, "event_id": "b"},
    {"item_id": "3", "rating": 5, "timestamp": 30, "event_id": "c", "text": "A wonderful evening"},
]
TEXTS = ["Far too loud and it broke", "", "A wonderful evening"]


@pytest.fixture(scope="module", params=["streaming", "resampler"])
def run(request, tiny_data, tiny_sentence_encoder, tmp_path_factory):
    """A tiny run that was trained on events with texts."""
    folder = tmp_path_factory.mktemp("told")
    words = ["loud", "wonderful", "broke", "evening", "slow", "funny"]
    rows = range(len(tiny_data.interactions))
    reviews = pl.Series([f"so {words[row % 6]} and {words[row % 5]}" if row % 3 else None for row in rows])
    info = tiny_data.info.model_copy(update={"reviewed_interactions": len(reviews) - reviews.null_count()})
    model = {
        "backbone": {"kind": "random-t5", "d_model": 32, "d_ff": 64, "num_heads": 2, "num_layers": 1},
        "user_encoder": ENCODERS[request.param],
        "event_texts": True,
    }
    recipe = tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, folder / "cache", model=model, train={"max_steps": 2}
    )
    train_run(recipe, folder / "run", dataset=replace(tiny_data, info=info, reviews=reviews))
    sharpen(folder / "run")
    return folder / "run"


def history(texts):
    columns = ([one[name] for one in EVENTS] for name in ("item_id", "rating", "timestamp"))
    return History("u", *columns, texts=texts)


def prompt(server, user_id):
    found = server.get(f"/users/{user_id}/prompt")
    assert found.status_code == 200, found.text
    return load(found.content)["user_prompt"]


def without(events, *names):
    return [{name: value for name, value in one.items() if name not in names} for one in events]


def test_prompts_and_answers_are_those_of_events_with_their_texts(run, serve):
    server, model = serve(of=run), load_model(run)
    server.post("/users/told/events", json=EVENTS)
    server.post("/users/silent/events", json=without(EVENTS, "text"))
    told, silent = prompts_of(model, [history(TEXTS), history(())])
    assert not torch.allclose(told, silent, atol=1e-3)
    assert prompt(server, "told").allclose(told, atol=1e-4)
    assert prompt(server, "silent").allclose(silent, atol=1e-4)
    given = [without(EVENTS, "event_id"), without(EVENTS, "event_id", "text")]
    asked = [{"user_id": "told"}, {"user_id": "silent"}, {"history": given[1]}, {"history": given[0]}]
    said = [one["text"] for one in ask(server, *asked)]
    assert said[:2] == expected(model, [history(TEXTS), history(())])
    assert said[2:] == [said[1], said[0]]  # a history in the request is read as a stored one


def test_a_state_is_what_it_would_be_made_anew(run, serve):
    server = serve(of=run)
    for one in EVENTS:  # kept after each event
        server.post("/users/slow/events", json=one)
        prompt(server, "slow")
    server.post("/users/quick/events", json=EVENTS)
    assert prompt(server, "slow").allclose(prompt(server, "quick"), atol=1e-5)  # but for rounding
    again = {**EVENTS[0], "timestamp": 40, "event_id": "d", "text": "I like it now"}
    server.post("/users/slow/events", json=again)  # takes the place of the first
    assert not prompt(server, "slow").allclose(prompt(server, "quick"), atol=1e-3)
    server.post("/users/fresh/events", json=[*EVENTS[1:], again])
    assert prompt(server, "slow").allclose(prompt(server, "fresh"), atol=1e-5)
    server.request("DELETE", "/users/slow/events", params={"event_id": ["d", "a"]})
    server.post("/users/rest/events", json=EVENTS[1:])
    assert prompt(server, "slow").allclose(prompt(server, "rest"), atol=1e-5)


def test_texts_are_exported_and_are_gone_after_the_deletion(run, serve, tmp_path):
    server = serve(of=run)
    server.post("/users/ann/events", json=EVENTS)
    before = prompt(server, "ann")
    *lines, _ = map(json.loads, server.get("/users/ann/export").text.splitlines())
    assert [one["text"] for one in lines if one["kind"] == "event"] == [text or None for text in TEXTS]
    store = tmp_path / "users.sqlite"
    assert b"Far too loud" in b"".join(path.read_bytes() for path in tmp_path.glob("users.sqlite*"))
    server.request("DELETE", "/users/ann/events", params={"event_id": "a"})
    assert "Far too loud" not in server.get("/users/ann/export").text
    assert not torch.equal(prompt(server, "ann"), before)
    server.delete("/users/ann")
    assert server.get("/users/ann/export").status_code == 404
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("users.sqlite*"))
    assert store.exists()
    assert b"Far too loud" not in kept
    assert b"wonderful" not in kept


def test_the_command_line_reads_the_texts_of_a_history(run, tmp_path):
    model = load_model(run)
    answers = []
    for name, events in (("told", EVENTS), ("silent", without(EVENTS, "text"))):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(without(events, "event_id")))
        shown = CliRunner().invoke(app, ["generate", str(run), "--history", str(file)])
        assert shown.exit_code == 0, shown.output
        assert "not read" not in shown.stderr
        answers.append(shown.stdout.strip())
    assert answers == [one.strip() for one in model.generate([history(TEXTS), history(())])]


def test_logs_are_not_folded_for_a_model_that_reads_texts(run, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item,rating,time,review\nu,1,4,10,Loud\n")
    refused = CliRunner().invoke(app, ["fold", str(log), "--run", str(run), "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert (
        "without texts; serve it, or train it with model.event_texts=false" in said
        or "keeps no state" in said
    )
    assert not (tmp_path / "out").exists()


def test_what_a_model_does_not_read_is_said(run_of, tmp_path):
    file, plain = tmp_path / "me.json", run_of("streaming")
    file.write_text(json.dumps(without(EVENTS[:1], "event_id")))
    shown = CliRunner().invoke(app, ["generate", str(plain), "--history", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "texts of the history are not read" in " ".join(shown.stderr.split())
    log = tmp_path / "log.csv"
    log.write_text("user,item,rating,time,review\nu,1,4,10,Loud\n")
    out = tmp_path / "out"
    folded = CliRunner().invoke(
        app, ["fold", str(log), "--run", str(plain), "--out", str(out), "--workers", "1"]
    )
    assert folded.exit_code == 0, folded.output
    assert "column review is not read: states are folded without texts" in " ".join(folded.stderr.split())
