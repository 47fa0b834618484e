"""Retention: events above an age are deleted like any other, and refused afterwards."""

import json
import time
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from palate.cli import app
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.serve.store import ageing
from palate.serve.store.changes import Event
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import UserStore
from serving import append, ask, bytes_of, refusal, sent

NOW = int(time.time())
DAY = 86_400


def ago(days):
    return NOW - int(days * DAY)


def test_old_events_go_with_what_was_made_of_them_and_nothing_comes_back(store):
    store.append(
        {
            "ann": [
                Event("a", 1.0, ago(40), "older"),
                Event("a", 5.0, ago(35), "old"),
                Event("b", 2.0, ago(35), "replaced"),
                Event("b", 4.0, ago(3), "new"),
            ],
            "bob": [Event("a", 3.0, ago(99), "long ago")],
            "eve": [Event("a", 3.0, ago(2), "kept")],
        }
    )
    keys = {one: store.history(one).key for one in ("ann", "eve")}
    for one, key in keys.items():
        store.keep(key, "model", Encoded(store.history(one).version, b"prompt", b"state"))
    found = store.delete_older(30)
    assert (found.users, found.events, found.gone) == (2, 4, ("bob",))
    assert store.user_ids("", 9) == ["ann", "eve"]
    assert store.history("ann").history.event_ids == ["new"]
    assert store.history("ann").version == 5
    assert store.changes(keys["ann"], 4) is None, "what is known of it knows too much"
    assert store.encoded("ann", "model").kept is None
    assert store.encoded("eve", "model").kept == Encoded(1, b"prompt", b"state")
    (noted,) = store.deletions()
    assert (noted.kind, noted.users, noted.events, noted.who) == ("age", 1, 4, None)
    assert store.delete_older(30).events == 0
    assert store.append({"bob": [Event("a", 3.0, NOW)]})["bob"].version == 1


def test_the_files_hold_nothing_of_what_was_too_old(tmp_path, monkeypatch):
    monkeypatch.setattr(ageing, "USERS", 3)
    store = UserStore(tmp_path / "users.sqlite")
    for n in range(40):
        events = [Event(f"item-{m}", 3.0, ago(60), f"telling-{n}-{m}" + "x" * (n % 7) * 9) for m in range(30)]
        store.append({f"user-{n:02d}-tells": [*events, *[Event("new", 4.0, NOW)] * (n % 2)]})
    found = store.delete_older(30)
    assert (found.users, found.events, len(found.gone)) == (40, 1_200, 20)
    files = bytes_of(tmp_path)
    assert b"telling" not in files
    assert b"user-01-tells" in files
    assert b"user-02-tells" not in files
    store.close()


event_of = st.builds(
    Event,
    st.sampled_from("abcd"),
    st.sampled_from([1.0, 5.0]),
    st.integers(0, 9).map(ago),
    st.uuids().map(str),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.dictionaries(st.uuids().map(str), st.lists(event_of, min_size=1, max_size=6), max_size=4),
    days=st.integers(1, 8),
)
def test_what_is_left_is_what_would_be_there_without_the_old(store, sent, days):
    if sent:
        store.append(sent)
    found = store.delete_older(days + 0.5)
    young = {one: [event for event in events if event.timestamp >= ago(days)] for one, events in sent.items()}
    assert found.events == sum(map(len, sent.values())) - sum(map(len, young.values()))
    assert set(found.gone) == {one for one, events in young.items() if not events}
    for one, events in young.items():
        if events:
            history = store.history(one).history
            last = {event.item_id: event for event in sorted(events, key=lambda event: event.timestamp)}
            assert Counter(
                zip(history.item_ids, history.ratings, history.timestamps, strict=True)
            ) == Counter((event.item_id, event.rating, event.timestamp) for event in last.values())
            store.delete_user(one)


@pytest.mark.parametrize("kind", ["streaming", "recency", "uem"])
def test_prompts_and_answers_are_those_of_what_is_left(serve, run_of, tiny_data, kind):
    server = serve(of=run_of(kind))
    (history,) = tiny_data.histories(tiny_data.user_ids[:1])
    events = sent(history)
    times = [ago(50) if n < 5 else ago(1) + n for n in range(len(events))]
    events = [{**event, "timestamp": when} for event, when in zip(events, times, strict=True)]
    server.post("/users/ann/events", json=events).raise_for_status()
    ask(server, {"user_id": "ann"})
    users = server.app.app.state.service.users
    assert users.store.delete_older(30).events == 5
    server.post("/users/bob/events", json=events[5:]).raise_for_status()
    ann, bob = (ask(server, {"user_id": one})[0]["text"] for one in ("ann", "bob"))
    assert ann == bob
    first, second = (users.served.prompt_from(users.encoded(one)[0]).embeddings for one in ("ann", "bob"))
    assert torch.equal(first, second)


def test_a_server_deletes_what_is_too_old_and_refuses_more_of_it(serve):
    old, new = {"item_id": "1", "rating": 4, "timestamp": ago(31)}, {"item_id": "2", "rating": 4}
    forgetful = serve()
    forgetful.post("/users/ann/events", json=[old, new]).raise_for_status()
    forgetful.post("/users/bob/events", json=old).raise_for_status()
    server = serve(retention_days=30)
    while server.get("/users").json()["users"] != ["ann"]:
        time.sleep(0.01)
    assert [one["item_id"] for one in server.get("/users/ann/history").json()["events"]] == ["2"]
    said = refusal(server.post("/users/ann/events", json=[new, old]), 422)
    assert "event 1 of item '1'" in said
    assert "is older than this server keeps events (--retention)" in said
    assert server.get("/users/ann/history").json()["version"] == 3, "nothing of a refused request is kept"


def test_an_event_that_is_still_there_may_be_sent_again(tmp_path):
    event = Event("a", 3.0, ago(31), "e")
    UserStore(tmp_path / "users.sqlite").append({"ann": [event]})
    store = UserStore(tmp_path / "users.sqlite", retention_days=30)
    assert store.append({"ann": [event]})["ann"].known == 1
    store.close()


def test_the_command_forgets_and_takes_users_out_of_the_runs_exports(run, tiny_data, tmp_path, monkeypatch):
    first, second = tiny_data.histories(tiny_data.user_ids[:2])
    export_prompts(run, [first, second], tmp_path / "out")
    store = UserStore(tmp_path / "users.sqlite")
    store.append({first.user_id: [Event("1", 3.0, ago(9))], second.user_id: [Event("1", 3.0, NOW)]})
    store.close()
    name = str(tmp_path / "users.sqlite")

    def call(*arguments):
        done = CliRunner().invoke(app, ["store", *map(str, arguments)])
        assert done.exit_code == 0, done.stderr
        return done

    said = call("forget", "--older-than", 7, "--store", name, "--run", run)
    assert said.stdout == "deleted 1 event of 1 user, and 1 of these users, who had no other events\n"
    assert read_prompts(tmp_path / "out", run).user_ids == [second.user_id]
    assert "exports were not changed" not in said.stderr
    (noted,) = map(json.loads, call("deletions", "--store", name).stdout.splitlines())
    assert (noted["kind"], noted["users"], noted["events"]) == ("age", 1, 1)
    assert call("deletions", "--store", name, "--user", second.user_id).stdout == ""
    refused = CliRunner().invoke(app, ["store", "forget", "--older-than", "7", "--store", name + "x"])
    assert refused.exit_code == 2
    assert "no such store" in refused.stderr
    assert not (tmp_path / "users.sqlitex").exists()


def test_a_deletion_for_age_while_a_prompt_is_made_is_not_undone(run, tmp_path, monkeypatch):
    from palate.serve.engine import ServedModel, Users

    users = Users(ServedModel(run), UserStore(tmp_path / "users.sqlite"))
    append(users, {"ann": [Event("1", 1.0, ago(60)), Event("2", 5.0, NOW)]})
    encode = users.served.encode

    def meanwhile(found):
        made = encode(found)
        users.store.delete_older(30)
        return made

    monkeypatch.setattr(users.served, "encode", meanwhile)
    users.encoded("ann")
    monkeypatch.undo()
    append(users, {"bob": [Event("2", 5.0, NOW)]})
    ann, bob = (users.served.prompt_from(users.encoded(one)[0]).embeddings for one in ("ann", "bob"))
    assert torch.equal(ann, bob)
