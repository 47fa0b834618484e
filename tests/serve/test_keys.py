"""API keys: permissions, rate limits, and the key file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.errors import DataError
from palate.serve.keys import ANSWERS, ApiKey, Keys
from serving import refusal

WRITER, READER, SLOW = ("w" * 20, "r" * 20, "s" * 20)
EVENT = {"item_id": "1", "rating": 4}


@pytest.fixture
def server(serve, tmp_path):
    (tmp_path / "keys").write_text(
        f"# who may what\n{WRITER} name=shop\n{READER} read-only name=dashboard\n{SLOW} rate=2\n"
    )
    opened = serve(key_file=tmp_path / "keys")
    opened.post("/users/ann/events", json=EVENT, headers=by(WRITER)).raise_for_status()
    return opened


def by(key):
    return {"Authorization": f"Bearer {key}"}


def test_a_key_that_may_only_read_answers_and_changes_nothing(server):
    document = server.app.app.openapi()["paths"]
    operations = [(method.upper(), path) for path, methods in document.items() for method in methods]
    assert {path for method, path in operations if method == "POST"} >= ANSWERS
    before = server.get("/users/ann/export", headers=by(WRITER)).text.splitlines()
    for method, path in operations:
        asked = path.replace("{user_id}", "ann")
        if asked in ("/health", "/ready"):  # open to all
            continue
        given = server.request(method, asked, headers=by(READER), json={} if method == "POST" else None)
        if method == "GET" or path in ANSWERS:
            assert given.status_code in (200, 404, 422, 400), (method, path, given.text)
        else:
            said = refusal(given, 403)
            assert (
                said == "the API key 'dashboard' is read-only; use another key for requests that change data"
            )
    question = {"questions": [{"user_id": "ann"}]}
    assert server.post("/answers", json=question, headers=by(READER)).status_code == 200
    after = server.get("/users/ann/export", headers=by(WRITER)).text.splitlines()
    kept = [json.loads(one) for one in after]
    assert [one for one in kept if one["kind"] in ("user", "event")] == [
        json.loads(one) for one in before if '"kind": "encoding"' not in one and '"kind": "end"' not in one
    ]


def test_only_a_key_for_administration_switches_models(serve, tmp_path):
    (tmp_path / "keys").write_text(f"{WRITER} name=shop\n{READER} read-only\n{SLOW} admin\n")
    opened = serve(key_file=tmp_path / "keys")
    wanted = {"serve": "old"}
    said = refusal(opened.post("/upgrade", json=wanted, headers=by(WRITER)), 403)
    assert said == "the API key 'shop' may not switch models; use a key with the option admin"
    assert "is read-only" in refusal(opened.post("/upgrade", json=wanted, headers=by(READER)), 403)
    for key in (WRITER, READER, SLOW):
        assert "no upgrade is running" in refusal(opened.get("/upgrade", headers=by(key)), 404)
    assert "no upgrade is running" in refusal(opened.post("/upgrade", json=wanted, headers=by(SLOW)), 404)
    assert opened.post("/users/ann/events", json=EVENT, headers=by(SLOW)).status_code == 200


@pytest.mark.parametrize("path", ["/answers/", "/users/ann/events/", "/no/such/route"])
def test_what_is_not_known_to_read_is_refused(server, path):
    refusal(server.post(path, json=EVENT, headers=by(READER), follow_redirects=False), 403)


def test_a_key_may_ask_as_often_as_it_may(server):
    assert [server.get("/users", headers=by(SLOW)).status_code for _ in range(3)] == [200, 200, 429]
    refused = server.post("/users/ann/events", json={**EVENT, "item_id": "2"}, headers=by(SLOW))
    assert (
        refusal(refused, 429) == "the API key 'line 4' is limited to 2 requests a minute; try again in 30 s"
    )
    assert refused.headers["retry-after"] == "30"
    assert server.get("/users", headers=by(WRITER)).status_code == 200
    assert len(server.get("/users/ann/history", headers=by(WRITER)).json()["events"]) == 1
    assert server.get("/", headers=by(SLOW)).status_code == 200, "the page has no user in it"


@given(
    rate=st.integers(1, 600),
    pauses=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=200),
)
def test_no_span_of_time_has_more_requests_than_a_pause_and_the_rate_allow(rate, pauses):
    key, now, taken = ApiKey(b"", "k", rate=rate), 1_000.0, []
    for pause in pauses:
        now += pause
        wait = key.wait(now)
        if wait == 0:
            taken.append(now)
        else:
            assert 0 < wait <= 60 / rate + 1e-6
            now += wait + 1e-6
            assert key.wait(now) == 0, "it may ask again when it was told"
            taken.append(now)
    for start, first in enumerate(taken):
        for end in range(start, len(taken)):
            allowed = rate + (taken[end] - first) * rate / 60
            assert end - start + 1 <= allowed + 1e-3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("readonly", "unknown or invalid option 'readonly' of a key; expected  KEY"),
        ("read-only=yes", "unknown or invalid option 'read-only=yes' of a key"),
        ("read-only admin", "a key is both read-only and admin"),
        ("admin=yes", "unknown or invalid option 'admin=yes' of a key"),
        ("name=", "unknown or invalid option 'name=' of a key"),
        ("rate", "unknown or invalid option 'rate' of a key"),
        ("rate=often", "rate: found 'often', expected a number of requests a minute, 1 or more"),
        ("rate=0", "rate: found '0'"),
        ("rate=inf", "rate: found 'inf'"),
        ("rate=nan", "rate: found 'nan'"),
    ],
)
def test_what_a_key_file_may_not_say_is_named_with_its_line_and_without_the_key(tmp_path, line, said):
    (tmp_path / "keys").write_text(f"\n{WRITER} {line}\n")
    with pytest.raises(DataError) as caught:
        Keys(tmp_path / "keys")
    assert str(caught.value).startswith(f"{tmp_path / 'keys'}:2: {said}")
    assert WRITER not in str(caught.value)


def test_a_key_stands_once_in_a_file(tmp_path):
    (tmp_path / "keys").write_text(f"{WRITER}\n{READER}\n{WRITER} read-only\n")
    with pytest.raises(DataError, match="keys:3: duplicate key, expected each key once"):
        Keys(tmp_path / "keys")


def test_keys_are_found_by_all_of_their_characters(tmp_path):
    (tmp_path / "keys").write_text(f"{WRITER}\n{READER} read-only\n")
    keys = Keys(tmp_path / "keys")
    assert [keys.find(one).read_only for one in (WRITER, READER)] == [False, True]
    assert [keys.find(one) for one in ("", WRITER[:-1], WRITER + "w", "\ud800")] == [None] * 4
