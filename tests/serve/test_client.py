"""The client covers every route, and returns the server's responses."""

import re
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest

import palate
from palate.client import ServerError, _seconds
from palate.errors import PalateError

FOR_WATCHERS = {"GET /health", "GET /metrics"}
"""What orchestrators and Prometheus ask on their own."""
FOR_OTHER_CLIENTS = "/v1/"


@pytest.fixture
def client(listening):
    with palate.Client(listening()) as opened:
        yield opened


def test_every_route_has_a_method(client, monkeypatch):
    asked = []
    client._http.event_hooks["request"].append(
        lambda request: asked.append((request.method, request.url.raw_path.decode().partition("?")[0]))
    )
    client.add_events("ann", [{"item_id": "1", "rating": 4}])
    client.add_many([{"user_id": "bob", "item_id": "1", "rating": 2}])
    client.add_items([{"item_id": "x", "title": "y"}])
    client.answer("ann")
    client.user_prompt("ann")
    client.view("ann")
    client.attribution("ann")
    client.recommend("ann")
    client.rate(["1"], "ann")
    client.choose(["1", "2"], "ann")
    new = [{"item_id": "in-words", "title": "New", "categories": ["Drama"]}]
    client.rate(user_id="ann", items=new)
    client.choose(["1"], "ann", items=new)
    client.explanation("1", "ann")
    client.taste("ann")
    client.items("film")
    client.example()
    client.history("ann")
    client.users()
    client.model()
    client.ready()
    list(client.export("ann"))
    client.deletions()
    client.delete_events("ann", item_ids=["1"])
    client.delete_items(["x"])
    client.delete_user("ann")
    for asks in (client.upgrade, lambda: client.switch("old")):
        with pytest.raises(ServerError, match="no upgrade is running"):
            asks()
    document = client._http.get("/openapi.json").json()["paths"]
    for path, methods in document.items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        for method in map(str.upper, methods):
            if path.startswith(FOR_OTHER_CLIENTS):
                continue
            reached = any(method == one and pattern.fullmatch(where) for one, where in asked)
            assert reached != (f"{method} {path}" in FOR_WATCHERS), (method, path)


def test_users_are_listed_by_how_they_begin(client):
    client.add_many(
        [{"user_id": one, "item_id": "1", "rating": 4} for one in ("ann", "anna", "bob", "a n&%")]
    )
    assert client.users("ann") == ["ann", "anna"]
    assert client.users("a n&%") == ["a n&%"]
    assert client.users(most=2) == ["a n&%", "ann"]


def test_answers_are_explained(client):
    history = [{"item_id": str(number), "rating": number} for number in range(1, 5)]
    client.add_events("ann", [{**event, "timestamp": event["rating"]} for event in history])
    given, stored = client.attribution(history=history), client.attribution("ann")
    assert stored["text"] == given["text"] == client.answer("ann")
    assert [one["item_id"] for one in stored["items"]] == ["1", "2", "3", "4"]
    assert client.view("ann")["categories"] == client.view(history=history)["categories"]
    question = "What are the best and the worst genres for this user?"
    why = client.attribution("ann", question)
    assert (why["instruction"], why["text"]) == (question, client.answer("ann", question))


def test_events_are_deleted(client):
    events = [{"item_id": str(number), "rating": 4, "event_id": f"e/{number}"} for number in range(1, 6)]
    client.add_events("ann", events)
    assert client.delete_events("ann", event_ids=["e/1", "e/2"], item_ids=["5"]) == 3
    assert client.delete_events("ann", event_ids=["e/1"]) == 0
    assert [one["item_id"] for one in client.history("ann")["events"]] == ["3", "4"]
    with pytest.raises(ServerError, match="422: query: neither event_id nor item_id"):
        client.delete_events("ann")


def test_times_may_be_given_as_python_has_them(client):
    zone = timezone(timedelta(hours=2))
    when = [
        datetime(2024, 5, 31, 12),
        datetime(2024, 5, 31, 15, tzinfo=zone),
        date(2024, 6, 1),
        "2024-06-02",
        np.int64(1717326600),
    ]
    events = [{"item_id": at + 1, "rating": np.float32(4), "timestamp": time} for at, time in enumerate(when)]
    client.add_events("ann", events[:3])
    client.add_many([{"user_id": "ann", **event} for event in events[3:]])
    kept = client.history("ann")["events"]
    assert [one["timestamp"] for one in kept] == [1717156800, 1717160400, 1717200000, 1717286400, 1717326600]
    assert client.answer("ann") == client.answer(history=events)


def test_what_cannot_be_sent_is_named(client):
    with pytest.raises(ServerError, match="422: 0: rating is nan, expected a number"):
        client.add_events("ann", [{"item_id": "1", "rating": float("nan")}])
    with pytest.raises(PalateError, match=r"\{1\} cannot be sent; expected text, numbers, times"):
        client.add_events("ann", [{"item_id": "1", "rating": {1}}])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 1.0),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-4", 0.0),
        ("1e9", 60.0),
        ("nan", 1.0),
        ("soon", 1.0),
        ("Thu, 01 Jan 1970 00:00:07 GMT", 7.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60.0),
    ],
)
def test_a_busy_servers_wish_is_read_as_seconds_or_as_a_date_and_bounded(monkeypatch, header, seconds):
    monkeypatch.setattr("palate.client.time.time", lambda: 0.0)
    assert _seconds(header, 1.0) == seconds
