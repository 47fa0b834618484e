"""Events that are answered without FastAPI's layers are answered as with them: responses, metrics and stored rows."""

import json
import time
from collections import namedtuple
from contextlib import contextmanager

import pytest
from fastapi.responses import Response
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import select

from palate.errors import StoreError, StoreFullError
from palate.serve.app import create_app
from palate.serve.direct import DirectEvents
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.tables import events, users

KEY, READER = "k" * 20, "r" * 20


Kept = namedtuple("Kept", "user_id version item_id rating timestamp event_id superseded text")


class Side:
    """A server in this process and its store."""

    def __init__(self, client, app):
        self.client, self.app, self.store = client, app, app.state.service.store

    def rows(self):
        """Stored events, without the ids and times that the store has made up."""
        columns = (users.c.user_id, events.c.version, events.c.item_id, events.c.rating, events.c.timestamp)
        found = select(*columns, events.c.event_id, events.c.superseded, events.c.text)
        with self.store.database.reading() as connection:
            rows = connection.execute(found.select_from(events.join(users)).order_by(*columns[:2])).all()
        made = {row.event_id for row in rows if len(row.event_id) == 32}
        return [
            row._replace(
                event_id=None if row.event_id in made else row.event_id,
                timestamp=None if row.timestamp > 10**9 else row.timestamp,
            )
            for row in map(Kept._make, rows)
        ]


@contextmanager
def serving(run, folder, direct, **more):
    """Start a server in this process, with or without the direct path."""
    content = {"limits": Limits(body_bytes=100_000, events=200), **more}
    gate = create_app(ServeSettings(run=run, store=str(folder / f"{direct}.sqlite"), **content))
    if not direct:
        gate.app.user_middleware = [one for one in gate.app.user_middleware if one.cls is not DirectEvents]
    with TestClient(gate, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield Side(client, gate.app)


@pytest.fixture(scope="module")
def both(run, tmp_path_factory):
    """A server with the direct path, and one without it."""
    folder = tmp_path_factory.mktemp("direct")
    with serving(run, folder, True) as direct, serving(run, folder, False) as plain:
        yield direct, plain


def counted():
    """The counts of requests and events so far, apart from times."""
    names = ("palate_requests", "palate_events", "palate_request_seconds")
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in REGISTRY.collect()
        if family.name in names
        for one in family.samples
        if one.name.endswith(("_total", "_count"))
    }


def answered(side, path, body, headers, method="POST"):
    """Return all that a client sees of a response, and what it has changed in the metrics."""
    before = counted()
    response = side.client.request(method, path, content=body, headers=headers)
    changed = {name: value - before.get(name, 0) for name, value in counted().items()}
    return (
        response.status_code,
        sorted(response.headers.items()),
        response.content,
        {name: value for name, value in changed.items() if value},
    )


def same(both, path, body, headers, method="POST"):
    direct, plain = (answered(side, path, body, headers, method) for side in both)
    assert direct == plain
    return direct


JSON = {"content-type": "application/json"}
PATHS = ["/users/ann/events", "/users/b%20b/events", "/users/%C3%A9/events", "/users/ann/events?x=1"]
ODD_PATHS = [
    "/users//events",
    "/users/a%2Fb/events",
    "/users/%2E/events",
    "/users/a%00/events",
    "/users/" + "u" * 201 + "/events",
    "/users/ann/events/",
    "/users/x/y/events",
    "/users/events",
    "/users/%FF/events",
]
KINDS = ["application/json; charset=utf-8", "Application/JSON", "text/plain", "application/x+json"]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 8),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
)
fields = {
    "event_id": st.sampled_from(["e1", "e2", "e3", "", 7, None, "a\x00b"]),
    "timestamp": st.sampled_from([0, 5, 893286638, "1998-04-23", 10**17, 5.5, "x", 10**10]),
    "text": st.text(max_size=9),
}
odd_fields = dict.fromkeys(("item_id", "rating", "dwell", "event_type", "extra", "text"), values)


@st.composite
def sent_events(draw, item_ids):
    """An event, mostly valid."""
    event = {"item_id": draw(st.sampled_from(item_ids)), "rating": draw(st.sampled_from([1, 2.0, "3", 4, 5]))}
    event |= draw(st.fixed_dictionaries({}, optional=fields))
    if not draw(st.integers(0, 3)):
        name = draw(st.sampled_from(list(odd_fields)))
        event[name] = draw(odd_fields[name])
    return event


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_bodies_paths_and_types_are_answered_alike(both, tiny_data, data):
    one = sent_events([*tiny_data.item_ids[:4], "unknown"])
    body = json.dumps(data.draw(st.one_of(one, st.lists(one, max_size=4), values))).encode()
    damaged = [b"\xef\xbb\xbf" + body, body[:-1], b"", b"\xff", b'{"rating": 1, "rating": 1}']
    body = data.draw(st.sampled_from([body] * 5 + damaged))
    path = data.draw(st.sampled_from(PATHS * 4 + ODD_PATHS))
    same(both, path, body, {"content-type": data.draw(st.sampled_from([JSON["content-type"]] * 6 + KINDS))})
    assert both[0].rows() == both[1].rows()


def event(tiny_data, at=0, **more):
    return json.dumps({"item_id": tiny_data.item_ids[at], "rating": 4, **more}).encode()


def test_a_valid_event_does_not_come_to_the_application_and_another_request_does(both, tiny_data):
    passed_on = []

    async def application(scope, receive, send):
        passed_on.append((await receive())["body"])
        await Response(b"passed on")(scope, receive, send)

    def post(path, body, headers=JSON):
        direct = DirectEvents(application)

        async def app(scope, receive, send):
            await direct({**scope, "app": both[0].app}, receive, send)

        return TestClient(app).post(path, content=body, headers=headers)

    assert post("/users/eve/events", event(tiny_data)).json()["new"] == 1
    assert not passed_on
    invalid = event(tiny_data, rating="much")
    for path, body, headers in (
        ("/users/eve/events", invalid, JSON),
        ("/users/eve/events", event(tiny_data), {"content-type": "text/plain"}),
        ("/users/eve/prompts", event(tiny_data), JSON),
        ("/users/x/y/events", event(tiny_data), JSON),
    ):
        assert post(path, body, headers).text == "passed on"
        assert passed_on.pop() == body
    both[0].store.delete_user("eve")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_other_methods_are_answered_alike(both, tiny_data, method):
    same(both, "/users/nobody/events", event(tiny_data), JSON, method)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 200), (100, 200), (101, 200), (200, 200), (201, 422), (3_000, 422), (6_000, 413)],
)
def test_many_events_in_a_request_are_answered_alike(both, tiny_data, count, expected):
    some = [{"item_id": tiny_data.item_ids[at % 9], "rating": 1 + at % 5} for at in range(count)]
    assert same(both, f"/users/many{count}/events", json.dumps(some).encode(), JSON)[0] == expected
    assert both[0].rows() == both[1].rows()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreError("postgresql://host is away"), 503),
        (StoreFullError("full"), 507),
        (RuntimeError("a bug"), 500),
    ],
)
def test_errors_of_the_store_are_answered_alike(both, tiny_data, monkeypatch, error, status):
    def fails(*_):
        raise error

    for side in both:
        monkeypatch.setattr(side.store, "appending", fails)
    assert same(both, "/users/ann/events", event(tiny_data), JSON)[0] == status


def test_keys_are_asked_for_and_limited_alike(run, tmp_path, tiny_data):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{KEY} name=shop rate=2\n{READER} read-only\n")
    with (
        serving(run, tmp_path, True, key_file=keys) as direct,
        serving(run, tmp_path, False, key_file=keys) as plain,
    ):
        sent = [KEY, READER, "unknown", KEY, KEY]
        found = [
            same(
                (direct, plain),
                "/users/ann/events",
                event(tiny_data),
                {**JSON, "authorization": f"Bearer {key}"},
            )
            for key in sent
        ]
    assert [status for status, *_ in found] == [200, 403, 401, 200, 429]


def test_a_request_that_takes_too_long_changes_nothing(run, tmp_path, tiny_data, monkeypatch):
    limits = Limits(seconds=0.05)
    with (
        serving(run, tmp_path, True, limits=limits) as direct,
        serving(run, tmp_path, False, limits=limits) as plain,
    ):
        for side in (direct, plain):
            users_of = side.app.state.service.users
            monkeypatch.setattr(users_of, "check", lambda *_: time.sleep(0.1))
        assert same((direct, plain), "/users/ann/events", event(tiny_data), JSON)[0] == 503
        assert direct.rows() == plain.rows() == []
