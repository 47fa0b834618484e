"""Users' texts about events: stored, read by models that use texts, and deleted with the events."""

import pytest

from palate.data.event_fields import MAX_TEXT_LENGTH
from palate.errors import ConflictError
from palate.serve.store.changes import Event


def texts_of(store, user="u"):
    history = store.history(user).history
    return dict(zip(history.item_ids, history.texts or [""] * len(history), strict=True))


def test_a_text_is_kept_replaced_and_deleted_with_its_event(store):
    store.append({"u": [Event("1", 4.0, 10, "a", "Loud and good"), Event("2", 3.0, 11, "b")]})
    assert texts_of(store) == {"1": "Loud and good", "2": ""}
    store.append({"u": [Event("1", 4.0, 10, "a", "Loud and good")]})  # sent again
    with pytest.raises(ConflictError, match="already stored with another item, rating, time or text"):
        store.append({"u": [Event("1", 4.0, 10, "a", "Loud")]})
    store.append({"u": [Event("1", 2.0, 12, "c", "It broke")]})
    assert texts_of(store)["1"] == "It broke"
    store.delete_events("u", event_ids=["c"])
    assert texts_of(store)["1"] == "Loud and good"
    store.delete_events("u", item_ids=["1"])
    assert texts_of(store) == {"2": ""}


def test_a_text_round_trips_over_http(server):
    text = "'); DROP TABLE events; -- \x00{{item}}\n🎸"
    sent = {"item_id": "1", "rating": 4, "text": text, "event_id": "e", "timestamp": 5}
    other = {"item_id": "2", "rating": 3, "event_id": "f", "timestamp": 6}
    for event in (sent, other):
        assert server.post("/users/writer/events", json=event).status_code == 200
    first, second = server.get("/users/writer/history").json()["events"]
    assert first["text"] == "'); DROP TABLE events; --  {{item}} 🎸"  # control characters are spaces
    assert second["text"] is None


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT_LENGTH + 1), 3, ["a"], {"a": 1}])
def test_texts_that_are_none_are_refused_and_nothing_is_stored(server, text):
    said = server.post("/users/bad/events", json={"item_id": "1", "rating": 4, "text": text})
    assert said.status_code == 422
    assert "expected text of at most 20,000 characters" in said.text
    assert server.get("/users/bad/history").status_code == 404
