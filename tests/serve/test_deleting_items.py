"""Deletion of added items, with all events about them, on every server of the store."""

import threading
from contextlib import suppress

import pytest
from sqlalchemy import text

from palate.errors import DataError
from palate.schema import Item
from palate.serve import service
from palate.serve.engine import ServedModel, Users
from palate.serve.store.changes import Event, ItemsRemovedError
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import UserStore
from serving import append, ask, bytes_of, refusal

ALIEN, BRAZIL = Item("x", "A telling title", ("Horror",), "And a telling text.", 1979), Item("y", "Brazil")
NEW = [{"item_id": "x", "title": "A telling title"}, {"item_id": "y", "title": "Brazil"}]
RATED = [{"item_id": one, "rating": 4, "timestamp": at} for at, one in enumerate(("1", "x", "2", "y"))]


def test_an_item_goes_with_everyones_events_about_it(store):
    store.add_items([ALIEN, BRAZIL])
    about = [Event("x", 4.0, 1), Event("x", 5.0, 2), Event("y", 3.0, 3)]
    store.append({"ann": about, "bob": about[:1], "eve": about[2:]})
    for name in ("ann", "eve"):
        key, version, *_ = store.encoded(name, "model")
        store.keep(key, "model", Encoded(version, b"prompt", b"state"), 0)
    deleted = store.delete_items(["x", "x", "none"])
    assert (deleted.items, deleted.events) == (1, 3)
    assert store.items() == ([BRAZIL], 2, 1)
    left = {name: store.history(name) for name in ("ann", "bob", "eve")}
    assert {name: one.history.item_ids for name, one in left.items()} == {
        "ann": ["y"],
        "bob": [],
        "eve": ["y"],
    }
    assert {name: one.version for name, one in left.items()} == {"ann": 4, "bob": 2, "eve": 1}
    assert store.changes(left["ann"].key, 3) is None
    assert store.encoded("eve", "model").kept is None
    again = store.delete_items(["x"])
    assert (again.items, again.events, store.removals()) == (0, 0, 1)


def test_what_was_made_or_checked_before_the_deletion_is_not_kept(store):
    store.add_items([ALIEN])
    store.append({"ann": [Event("y", 3.0, 3)]}, removals=0)
    key, version, *_ = store.encoded("ann", "model")
    store.delete_items(["x"])
    store.keep(key, "model", Encoded(version, b"with the place of x"), removals=0)
    assert store.encoded("ann", "model") == (key, version, None, 1)
    with pytest.raises(ItemsRemovedError):
        store.append({"ann": [Event("x", 4.0, 1)]}, removals=0)
    assert store.append({"ann": [Event("y", 4.0, 4)]}, removals=1)["ann"].new == 1


def test_events_that_are_added_meanwhile_are_deleted_or_refused(store):
    """Whoever comes first, no event is left of an item that is not there."""
    for round_ in range(5):
        store.add_items([Item(f"x{round_}", "X")])
        removals = store.removals()

        def add(worker, round_=round_, removals=removals):
            with suppress(ItemsRemovedError):
                for number in range(10):
                    store.append({f"u{worker}": [Event(f"x{round_}", 4.0, number)]}, removals)

        threads = [threading.Thread(target=add, args=(worker,)) for worker in range(3)]
        for thread in threads:
            thread.start()
        store.delete_items([f"x{round_}"])
        for thread in threads:
            thread.join()
    assert store.event_items() == []


def test_the_files_hold_nothing_of_a_deleted_item(tmp_path):
    store = UserStore(tmp_path / "users.sqlite")
    store.add_items([ALIEN, BRAZIL])
    store.append({"ann": [Event("x", 4.0, 1, "a-telling-id")]})
    assert b"telling" in bytes_of(tmp_path)
    store.delete_items(["x"])
    assert b"telling" not in bytes_of(tmp_path)
    store.close()


@pytest.mark.parametrize("kind", ["streaming", "text", "universal"])
def test_another_server_of_the_store_forgets_the_item(serve, run_of, kind):
    server, other = serve(of=run_of(kind)), serve(of=run_of(kind))
    server.post("/items", json={"items": NEW}).raise_for_status()
    other.post("/users/ann/events", json=RATED).raise_for_status()
    assert server.delete("/items", params={"item_id": ["x", "none"]}).json() == {"items": 1, "events": 1}
    refused = refusal(other.post("/users/bob/events", json=RATED[1]), 422)
    assert "1 item id is not known: 'x'" in refused
    for one in (server, other, serve(of=run_of(kind))):
        history = one.get("/users/ann/history").json()["events"]
        assert [event["item_id"] for event in history] == ["1", "2", "y"]
        assert history[2]["title"] == "Brazil"
        stored, given = ask(one, {"user_id": "ann"}, {"history": [RATED[0], *RATED[2:]]})
        assert stored["text"] == given["text"]
        refusal(one.post("/views", json={"history": RATED}), 422)
    again = [{"item_id": "x", "title": "Another title under the same id"}]
    other.post("/items", json={"items": again}).raise_for_status()
    assert server.post("/users/bob/events", json=RATED[1]).json()["new"] == 1
    assert server.get("/users/bob/history").json()["events"][0]["title"] == again[0]["title"]


def test_a_server_that_is_asked_about_nobody_forgets_the_item_too(serve, monkeypatch):
    monkeypatch.setattr(service, "FOLLOWING", 0.01)
    server, other = serve(), serve()
    server.post("/items", json={"items": NEW}).raise_for_status()
    assert other.post("/views", json={"history": RATED}).status_code == 200
    encoder = other.app.app.state.service.users.served._encoder
    both = set(encoder._kept)
    server.delete("/items", params={"item_id": "x"}).raise_for_status()
    while other.post("/views", json={"history": RATED}).status_code == 200:
        pass
    assert set(encoder._kept) < both


def test_states_are_of_the_places_that_items_have_after_a_deletion(serve, recommender_run):
    """The second of two items takes the first one's place; states that were kept before hold the old one."""
    server, other = serve(of=recommender_run), serve(of=recommender_run)
    server.post("/items", json={"items": NEW}).raise_for_status()
    other.post("/users/ann/events", json=RATED[2:]).raise_for_status()

    def listed(one, who):
        wish = {"users": [who], "k": 61, "seen": False}
        (found,) = one.post("/recommendations", json=wish).json()["recommendations"]
        return [item["item_id"] for item in found["items"]]

    before = listed(other, {"user_id": "ann"})
    assert "x" in before
    assert "y" not in before
    server.delete("/items", params={"item_id": "x"}).raise_for_status()
    for one in (other, server, serve(of=recommender_run)):
        after = listed(one, {"user_id": "ann"})
        assert not {"x", "y"} & set(after)
        assert after == listed(one, {"history": RATED[2:]})
        assert one.get("/model").json()["items"] == 61


def test_items_of_the_models_own_data_are_refused(server, serve, recommender_run):
    for one in (server, serve(of=recommender_run)):
        said = refusal(one.delete("/items", params={"item_id": ["none", "1"]}), 422)
        assert "item_id: '1' is an item of the model's data" in said
    for which, said in (({}, "item_id"), ({"item_id": ""}, "item_id.0"), ({"item": "1"}, "unknown field")):
        assert said in refusal(server.delete("/items", params=which), 422)


def test_no_more_items_are_named_than_a_request_may_hold(serve):
    server = serve(limits={"events": 1})
    assert "item_id: found 2, expected at most 1" in refusal(
        server.delete("/items", params={"item_id": ["x", "y"]}), 422
    )


def test_an_item_that_is_deleted_while_events_about_it_are_checked_is_not_known(run, tmp_path, monkeypatch):
    users = Users(ServedModel(run), UserStore(tmp_path / "users.sqlite"))
    users.add_items([ALIEN])
    check = Users.check

    def meanwhile(self, *rest):
        check(self, *rest)
        self.store.delete_items(["x"])

    monkeypatch.setattr(Users, "check", meanwhile)
    with pytest.raises(DataError, match="1 item id is not known: 'x'"):
        append(users, {"ann": [Event("x", 4.0, 1)]})
    with users.store.database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar_one() == 0
    users.store.close()
