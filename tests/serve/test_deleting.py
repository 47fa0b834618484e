"""Deletion of events: the state of tables, prompts, states and files as if they had never been sent."""

import random
import threading
import uuid
from collections import Counter

import pytest
import torch
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from palate.errors import StoreError, UnknownUserError
from palate.model.model import load_model
from palate.serve.engine import ServedModel, Users
from palate.serve.store import database
from palate.serve.store.changes import Event
from palate.serve.store.database import store_url
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import UserStore
from serving import append, ask, bytes_of, expected, refusal, sent

SOME = [Event("a", 3.0, 20, "first"), Event("b", 4.0, 10, "second"), Event("a", 5.0, 30, "third")]


def listed(history):
    return list(zip(history.item_ids, history.ratings, history.timestamps, strict=True))


def test_an_event_goes_and_the_earlier_rating_of_its_item_stands_again(store):
    store.append({"ann": SOME, "bob": SOME})
    assert listed(store.history("ann").history) == [("b", 4.0, 10), ("a", 5.0, 30)]
    deleted = store.delete_events("ann", event_ids=["third"])
    assert (deleted.events, deleted.version) == (1, 4)
    assert listed(store.history("ann").history) == [("b", 4.0, 10), ("a", 3.0, 20)]
    assert listed(store.history("bob").history) == [("b", 4.0, 10), ("a", 5.0, 30)]
    assert store.append({"ann": [Event("a", 1.0, 15)]})["ann"].version == 5
    assert listed(store.history("ann").history) == [("b", 4.0, 10), ("a", 3.0, 20)]


def test_an_item_goes_with_all_its_ratings(store):
    store.append({"ann": SOME})
    assert store.delete_events("ann", item_ids=["a"]).events == 2
    assert listed(store.history("ann").history) == [("b", 4.0, 10)]
    assert store.delete_events("ann", event_ids=["second", "second"], item_ids=["b"]).events == 1
    assert listed(store.history("ann").history) == []


def test_what_is_not_there_is_deleted_already(store):
    store.append({"ann": SOME})
    for _ in range(2):
        version = store.delete_events("ann", event_ids=["first"]).version
        assert version == 4
    assert store.delete_events("ann", event_ids=["none"], item_ids=["none"]).events == 0
    with pytest.raises(UnknownUserError, match="no user 'bob' in the store"):
        store.delete_events("bob", event_ids=["first"])


def test_an_event_that_is_sent_again_after_its_deletion_is_new(store):
    store.append({"ann": SOME})
    store.delete_events("ann", event_ids=["third"])
    again = store.append({"ann": [Event("c", 1.0, 5, "third"), *SOME[:2]]})["ann"]
    assert (again.new, again.known, again.version) == (1, 2, 5)
    assert listed(store.history("ann").history) == [("c", 1.0, 5), ("b", 4.0, 10), ("a", 3.0, 20)]


event_of = st.builds(
    Event, st.sampled_from("abcd"), st.sampled_from([1.0, 5.0]), st.integers(0, 5), st.uuids().map(str)
)
steps = st.lists(
    st.lists(event_of, min_size=1, max_size=5)
    | st.tuples(st.lists(st.integers(0, 20), max_size=3), st.sets(st.sampled_from("abcd"), max_size=2)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_a_history_is_that_of_the_events_that_are_left(store, steps):
    user_id = str(uuid.uuid4())
    store.append({user_id: [Event("a", 1.0, 3, "always")]})
    left, seen, forgotten = [Event("a", 1.0, 3, "always")], [], 0
    for step in steps:
        if isinstance(step, list):
            store.append({user_id: step})
            left += step
        else:
            numbers, items = step
            ids = [left[number].event_id for number in numbers if number < len(left)]
            gone = [event for event in left if event.event_id in ids or event.item_id in items]
            left = [event for event in left if event not in gone]
            deleted = store.delete_events(user_id, ids, sorted(items))
            assert deleted.events == len(gone)
            forgotten = deleted.version if gone else forgotten
        found = store.history(user_id)
        last = {event.item_id: event for event in sorted(left, key=lambda event: event.timestamp)}
        now = Counter((event.item_id, event.rating, event.timestamp) for event in last.values())
        assert Counter(listed(found.history)) == now
        seen.append((found.version, now))
    for since, old in seen:
        changes = store.changes(found.key, since)
        assert (changes is None) == (since < forgotten)
        if changes is not None:
            assert old - Counter(listed(changes.removed)) + Counter(listed(changes.added)) == now


def test_what_was_made_of_deleted_events_goes_and_does_not_come_back(store):
    store.append({"ann": SOME})
    key, version, *_ = store.encoded("ann", "model")
    for model in ("model", "another"):
        store.keep(key, model, Encoded(version, b"prompt", b"state"))
    store.delete_events("ann", event_ids=["second"])
    assert [store.encoded("ann", model)[1:3] for model in ("model", "another")] == [(4, None)] * 2
    store.keep(key, "model", Encoded(version, b"made while it was deleted"))
    assert store.encoded("ann", "model")[2] is None
    store.keep(key, "model", Encoded(4, b"made since"))
    assert store.encoded("ann", "model")[2] == Encoded(4, b"made since")


def test_the_files_hold_nothing_of_deleted_events(tmp_path):
    """With many events whose rows move between pages, so that copies would be left in the gaps."""
    store = UserStore(tmp_path / "users.sqlite")
    draw = random.Random(1)
    names = [f"event-{number:02d}-of-twenty" for number in range(20)]
    for step in range(200):
        name = draw.choice(names)
        many = [
            Event(
                f"{name}-{draw.randrange(60)}-{'x' * draw.randrange(80)}",
                3.0,
                number,
                f"{name}-{step}-{number}",
            )
            for number in range(draw.choice([1, 1, 1, 30]))
        ]
        user_id = draw.choice(["ann", "bob"])
        store.append({user_id: many})
        if step % 10 == 0:
            key, version, *_ = store.encoded(user_id, "model")
            made = f"{name}-prompt".encode() * draw.randrange(1, 3000)
            store.keep(key, "model", Encoded(version, made, made))
    for name in names[2:]:
        assert name.encode() in bytes_of(tmp_path)
        for user_id in ("ann", "bob"):
            history = store.history(user_id)
            named = [one for one in history.history.event_ids if one.startswith(name)]
            items = [one for one in history.history.item_ids if one.startswith(name)]
            store.delete_events(user_id, named, items)
        assert name.encode() not in bytes_of(tmp_path)
    assert (tmp_path / "users.sqlite-wal").stat().st_size == 0


def test_a_deletion_that_readers_hold_up_is_finished_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    store = UserStore(tmp_path / "users.sqlite")
    store.append({"ann": [*SOME, Event("c", 1.0, 5, "a-telling-name")]})
    with store.database.reading() as connection:
        connection.execute(text("SELECT * FROM events")).all()
        with pytest.raises(StoreError, match="repeat the request"):
            store.delete_events("ann", event_ids=["a-telling-name"])
    assert store.delete_events("ann", event_ids=["a-telling-name"]).events == 0
    assert b"a-telling-name" not in bytes_of(tmp_path)


def test_writers_and_deleters_at_the_same_time_lose_and_keep_nothing(store):
    store.append({"ann": [Event("s", 1.0, 0, "shared")]})

    def work(worker):
        for number in range(8):
            event = Event(f"{worker}-{number}", 3.0, number, f"{worker}-{number}")
            store.append({"ann": [event, Event("s", 2.0, number, f"s-{worker}-{number}")]})
            key, version, *_ = store.encoded("ann", "model")
            store.keep(key, "model", Encoded(version, b"prompt"))
            if number % 2:
                store.delete_events("ann", event_ids=[f"{worker}-{number}", f"s-{worker}-{number}"])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.history("ann")
    left = {f"{worker}-{number}" for worker in range(3) for number in range(0, 8, 2)}
    assert set(found.history.item_ids) == {*left, "s"}
    assert found.version == 1 + 3 * (8 * 2 + 4)


def test_a_store_of_the_first_schema_is_brought_up_to_date(store_name, monkeypatch):
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, head: upgrade(config, "1"))
    UserStore(store_name).close()
    monkeypatch.undo()
    engine = create_engine(store_url(store_name))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id, version) VALUES ('ann', 2)"))
        rows = ((1, "first", "a", "NULL"), (2, "second", "b", "NULL"))
        for version, event_id, item_id, superseded in rows:
            connection.execute(
                text(
                    "INSERT INTO events SELECT key, :version, :event_id, :item_id, 3.0, 5, "
                    f"{superseded} FROM users"
                ),
                {"version": version, "event_id": event_id, "item_id": item_id},
            )
    engine.dispose()
    store = UserStore(store_name)
    assert store.changes(store.history("ann").key, 1).added.item_ids == ["b"]
    assert store.delete_events("ann", event_ids=["first"]).version == 3
    assert store.history("ann").history.event_ids == ["second"]
    store.close()


@pytest.mark.parametrize("kind", ["streaming", "recency", "uem", "text"])
def test_prompts_and_answers_are_those_of_what_is_left(serve, run_of, tiny_data, kind):
    server, model = serve(of=run_of(kind)), load_model(run_of(kind))
    (history,) = tiny_data.histories(tiny_data.user_ids[:1])
    events = [{**event, "event_id": f"e{number}"} for number, event in enumerate(sent(history))]
    server.post("/users/ann/events", json=events)
    before = ask(server, {"user_id": "ann"})[0]
    which = {"event_id": ["e0", "e1"], "item_id": [events[-1]["item_id"]]}
    deleted = server.delete("/users/ann/events", params=which).json()
    assert deleted == {"user_id": "ann", "events": 3, "version": len(events) + 1}
    after = ask(server, {"user_id": "ann"})[0]
    assert (before["version"], after["version"]) == (len(events), len(events) + 1)
    server.post("/users/bob/events", json=events[2:-1])
    users = server.app.app.state.service.users
    ann, bob = (users.served.prompt_from(users.encoded(user_id)[0]).embeddings for user_id in ("ann", "bob"))
    assert torch.equal(ann, bob)
    assert after["text"] == expected(model, [users.store.history("bob").history])[0]


def test_someone_of_whom_nothing_is_left_is_asked_like_an_empty_history(server):
    server.post("/users/ann/events", json={"item_id": "1", "rating": 4, "event_id": "only"})
    ask(server, {"user_id": "ann"})
    server.delete("/users/ann/events", params={"item_id": "1"})
    assert server.get("/users/ann/history").json() == {"user_id": "ann", "version": 2, "events": []}
    stored, given_none = ask(server, {"user_id": "ann"}, {"history": []})
    assert stored["text"] == given_none["text"]
    assert server.post("/users/ann/events", json={"item_id": "1", "rating": 4}).json()["version"] == 3


@pytest.mark.parametrize("moment", ["encode", "advance", "changes"])
def test_a_deletion_while_a_prompt_is_made_is_not_undone(run, tmp_path, tiny_data, monkeypatch, moment):
    users = Users(ServedModel(run), UserStore(tmp_path / "users.sqlite"))
    items = tiny_data.item_ids
    first = [Event(items[0], 1.0, 5, "telling"), *(Event(item, 3.0, 9) for item in items[1:9])]
    append(users, {"ann": first})
    if moment != "encode":
        users.encoded("ann")
        append(users, {"ann": [Event(items[9], 5.0, 20)]})
    owner = users.store if moment == "changes" else users.served
    work = getattr(owner, moment)

    def meanwhile(*arguments):
        if moment == "changes":
            users.store.delete_events("ann", event_ids=["telling"])
            return work(*arguments)
        made = work(*arguments)
        users.store.delete_events("ann", event_ids=["telling"])
        return made

    monkeypatch.setattr(owner, moment, meanwhile)
    users.encoded("ann")
    monkeypatch.undo()
    made, _ = users.encoded("ann")
    append(users, {"bob": first[1:] + [Event(items[9], 5.0, 20)] * (moment != "encode")})
    assert torch.equal(
        users.served.prompt_from(made).embeddings,
        users.served.prompt_from(users.encoded("bob")[0]).embeddings,
    )


def test_the_route_takes_events_out_of_the_files_and_says_what_is_wrong(server, tmp_path):
    event = {"item_id": "1", "rating": 4, "event_id": "a/telling?id#of ann's"}
    server.post("/users/ann/events", json=[event, {"item_id": "2", "rating": 2}])
    server.post("/answers", json={"questions": [{"user_id": "ann"}]})
    for count in (1, 0):
        deleted = server.delete("/users/ann/events", params={"event_id": event["event_id"]})
        assert deleted.json() == {"user_id": "ann", "events": count, "version": 3}
        data = b"".join(path.read_bytes() for path in tmp_path.glob("users.sqlite*"))
        assert event["event_id"].encode() not in data
    assert server.post("/users/ann/events", json=event).json()["new"] == 1
    unknown = server.delete("/users/bob/events", params={"item_id": "1"})
    assert "no user 'bob' in the store" in refusal(unknown, 404)
    for which, said in (
        ({}, "neither event_id nor item_id; expected at least one of them"),
        ({"item": "1"}, "item: unknown field"),
        ({"event_id": ""}, "event_id.0: String should have at least 1 character"),
        ({"item_id": "x" * 201}, "item_id.0: String should have at most 200 characters"),
    ):
        assert said in refusal(server.delete("/users/ann/events", params=which), 422)
    assert len(server.get("/users/ann/history").json()["events"]) == 2


def test_no_more_events_are_named_than_a_request_may_hold(serve):
    server = serve(limits={"events": 3})
    which = {"event_id": ["a", "b"], "item_id": ["1", "2"]}
    assert "events: found 4, expected at most 3" in refusal(
        server.delete("/users/ann/events", params=which), 422
    )
