"""Export of a user's data, completely or not at all; the deletion log does not reveal content."""

import base64
import json

import httpx
import pytest
from safetensors.torch import load

import palate
from palate.client import ServerError
from palate.errors import PalateError, UnknownUserError
from palate.serve.store import personal
from palate.serve.store.changes import Event
from palate.serve.store.keeping import Encoded
from palate.serve.store.personal import personal_data
from serving import ask, bytes_of, refusal

KEY = "a-key-that-is-long-enough"
EVENTS = [
    {"item_id": "1", "rating": 2, "timestamp": 10, "event_id": "first", "text": "Not for me"},
    {"item_id": "2", "rating": 4, "timestamp": 5, "event_id": "second"},
    {"item_id": "1", "rating": 5, "timestamp": 20, "event_id": "third"},
]


def of_kind(lines, kind):
    return [one for one in lines if one["kind"] == kind]


def lines_of(server, user_id):
    given = server.get(f"/users/{user_id}/export")
    assert given.status_code == 200
    assert given.headers["content-type"] == "application/x-ndjson"
    assert given.headers["cache-control"] == "no-store"
    *lines, end = map(json.loads, given.text.splitlines())
    assert end == {"kind": "end", "lines": len(lines)}
    return lines


def test_an_export_has_every_event_prompt_and_state(server):
    server.post("/users/ann/events", json=EVENTS)
    server.post("/users/bob/events", json=EVENTS[:1])
    ask(server, {"user_id": "ann"}, {"user_id": "bob"})
    lines = lines_of(server, "ann")
    assert lines[0] == {"kind": "user", "user_id": "ann", "version": 3}
    events = of_kind(lines, "event")
    assert [(one["event_id"], one["superseded"]) for one in events] == [
        ("first", True),
        ("second", False),
        ("third", False),
    ]
    assert [{name: one[name] for name in sent} for one, sent in zip(events, EVENTS, strict=True)] == EVENTS
    assert all(one["title"].startswith("Film ") for one in events)
    (encoding,) = of_kind(lines, "encoding")
    users = server.app.app.state.service.users
    kept = users.store.encoded("ann", users.served.identity).kept
    assert base64.b64decode(encoding["prompt"]) == kept.prompt
    assert base64.b64decode(encoding["state"]) == kept.state
    assert load(base64.b64decode(encoding["prompt"]))["user_prompt"].ndim == 2
    assert (encoding["model"], encoding["version"]) == (users.served.identity, 3)
    assert "bob" not in json.dumps(lines)


def test_nobodys_export_is_refused_before_it_begins(server):
    assert "no user 'ann' in the store" in refusal(server.get("/users/ann/export"), 404)


def test_an_export_is_read_in_pages_and_leaves_out_what_comes_meanwhile(store, monkeypatch):
    monkeypatch.setattr(personal, "PAGE", 2)
    store.append({"ann": [Event(f"i{n}", 3.0, n, f"e{n}") for n in range(5)]})
    lines = personal_data(store, "ann", lambda ids: [None] * len(ids))
    read = [next(lines) for _ in range(3)]
    store.append({"ann": [Event("i0", 1.0, 9, "late"), Event("new", 1.0, 9, "new")]})
    read += list(lines)
    assert [one["event_id"] for one in of_kind(read, "event")] == [f"e{n}" for n in range(5)]
    assert not any(one["superseded"] for one in of_kind(read, "event"))
    assert not of_kind(read, "error")


@pytest.mark.parametrize("whole", [True, False])
def test_an_export_during_a_deletion_says_that_it_is_not_to_be_used(store, whole):
    store.append({"ann": [Event("a", 3.0, 1, "e1"), Event("b", 3.0, 2, "e2")]})
    lines = personal_data(store, "ann", lambda ids: [None] * len(ids))
    next(lines)
    store.delete_user("ann") if whole else store.delete_events("ann", ["e1"])
    assert list(lines)[-1]["kind"] == "error"
    with pytest.raises(UnknownUserError):
        personal_data(store, "nobody", lambda ids: [])


def test_the_client_gives_an_export_and_notices_where_it_is_not_whole(listening, monkeypatch):
    with palate.Client(listening()) as client:
        client.add_events("ann", EVENTS)
        assert [one["kind"] for one in client.export("ann")][:4] == ["user", "event", "event", "event"]
        with pytest.raises(ServerError, match="404"):
            next(client.export("nobody"))
        read = httpx.Response.iter_lines
        monkeypatch.setattr(httpx.Response, "iter_lines", lambda self: list(read(self))[:-1])
        with pytest.raises(PalateError, match="incomplete: it ends after 4 lines, without the line of"):
            list(client.export("ann"))
        error = json.dumps({"kind": "error", "detail": "events were deleted"})
        monkeypatch.setattr(httpx.Response, "iter_lines", lambda self: [error])
        with pytest.raises(PalateError, match="is incomplete: events were deleted"):
            list(client.export("ann"))


def test_the_exports_of_a_run_that_hold_the_user_are_named(server, monkeypatch, tmp_path):
    server.post("/users/ann/events", json=EVENTS)
    monkeypatch.setattr("palate.serve.service.exports_with", lambda run, user_id, data: [tmp_path / user_id])
    assert of_kind(lines_of(server, "ann"), "export") == [{"kind": "export", "folder": str(tmp_path / "ann")}]


def test_deletions_are_noted_without_what_they_were_of(serve, tmp_path):
    (tmp_path / "keys").write_text(f"{KEY} name=support\n")
    server = serve(key_file=tmp_path / "keys")
    server.headers["Authorization"] = f"Bearer {KEY}"
    secret = {"item_id": "x-secret", "title": "A telling title"}
    server.post("/items", json={"items": [secret]}).raise_for_status()
    for user in ("ann-tells", "bob-tells"):
        server.post(f"/users/{user}/events", json=[*EVENTS, {"item_id": "x-secret", "rating": 3}])
    server.delete("/users/ann-tells/events", params={"event_id": "first"})
    server.delete("/users/ann-tells/events", params={"event_id": "gone already"})
    server.delete("/items", params={"item_id": "x-secret"})
    server.delete("/users/ann-tells")
    server.delete("/users/ann-tells")
    server.delete("/users/bob-tells")
    log = server.get("/deletions").json()["deletions"]
    assert [(one["kind"], one["users"], one["events"], one["api_key"]) for one in log] == [
        ("events", 0, 1, "support"),
        ("items", 0, 2, "support"),
        ("user", 1, 2, "support"),
        ("user", 1, 3, "support"),
    ]
    ann = server.get("/deletions", params={"user_id": "ann-tells"}).json()["deletions"]
    assert ann == [log[0], log[2]]
    assert (log[0]["who"], log[1]["who"]) == (log[2]["who"], None)
    assert log[2]["who"] != log[3]["who"]
    assert server.get("/deletions", params={"after": log[2]["number"]}).json()["deletions"] == log[3:]
    files = bytes_of(tmp_path)
    assert not any(one in files for one in (b"tells", b"secret", b"Not for me"))


def test_the_export_of_someone_who_deleted_something_says_so(server):
    server.post("/users/ann/events", json=EVENTS)
    server.delete("/users/ann/events", params={"event_id": "first"})
    (noted,) = of_kind(lines_of(server, "ann"), "deletion")
    assert (noted["what"], noted["events"]) == ("events", 1)


def test_digests_of_two_stores_tell_nothing_of_each_other(store, tmp_path):
    from palate.serve.store.store import UserStore

    other = UserStore(tmp_path / "other.sqlite")
    digests = set()
    for one in (store, other):
        one.append({"ann": [Event("a", 3.0, 1)]})
        one.delete_user("ann")
        digests.add(one.deletions()[0].who)
    other.close()
    assert len(digests) == 2


def test_nothing_is_noted_of_what_was_not_there(store):
    store.append({"ann": [Event("a", 3.0, 1, "e")]})
    store.keep(store.history("ann").key, "model", Encoded(1, b"prompt"))
    store.delete_user("nobody")
    store.delete_events("ann", ["none"])
    store.delete_items(["none"])
    store.delete_older(1_000_000)
    assert store.deletions() == []
