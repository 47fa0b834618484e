"""The API's limits: refusals, quotas, authentication and the log."""

import json
import logging
import threading
import time

import pytest

from palate.errors import DataError, OutputError, PalateError, StoreError, StoreFullError
from palate.serve.keys import Keys
from palate.serve.schemas import SentEvent
from palate.serve.settings import ServeSettings, read_limits
from serving import refusal

KEY = "k" * 32
LINES = {"content-type": "application/x-ndjson; charset=utf-8"}
EVENT = {"item_id": "1", "rating": 4, "timestamp": 5}
QUESTION = {"history": [EVENT]}


def test_events_come_one_by_one_many_together_and_as_lines(server):
    assert server.post("/users/ann/events", json=EVENT).json() == {
        "user_id": "ann",
        "version": 1,
        "new": 1,
        "known": 0,
    }
    many = [{"item_id": "2", "rating": 1.0, "event_id": "a"}, {"item_id": "3", "rating": 5}]
    assert server.post("/users/ann/events", json=many).json()["version"] == 3
    lines = [{"user_id": "bob", **EVENT}, {"user_id": "ann", **many[0]}, {"user_id": "bob", **EVENT}]
    body = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    taken = server.post("/events", content=body, headers=LINES)
    assert taken.json()["users"] == [
        {"user_id": "ann", "version": 3, "new": 0, "known": 1},
        {"user_id": "bob", "version": 2, "new": 2, "known": 0},
    ]
    page = server.get("/users/ann/history", params={"newest": 2}).json()
    assert [event["item_id"] for event in page["events"]] == ["2", "3"]
    assert page["version"] == 3


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"item_id": "1"}, "0: rating is missing, expected a number"),
        ({"item_id": "1", "rating": "four"}, "0: rating is 'four', expected a number"),
        ({"item_id": "1", "rating": True}, "0: rating is True, expected a number"),
        (
            {"item_id": "1", "rating": 4.2},
            "the rating 4.2 is not on the model's scale; expected one of 1, 2, 3, 4, 5",
        ),
        ({"item_id": "1", "rating": 10**400}, "0: rating is 1000"),
        (
            {"item_id": "1", "rating": 4, "stars": 1},
            "0: unknown field 'stars'; expected item_id, rating, event_type, dwell, text, timestamp, event_id",
        ),
        ({"item_id": "1", "rating": 4, "timestamp": -1}, "0: timestamp is -1, expected a time since 1970"),
        ({"item_id": "1", "rating": 4, "timestamp": 10**30}, "0: timestamp is 1000"),
        (
            {"item_id": "1", "rating": 4, "timestamp": "soon"},
            "0: timestamp is 'soon', expected a time since 1970",
        ),
        ({"item_id": "", "rating": 4}, "0: item_id is '', expected text or a whole number"),
        (
            {"item_id": "a\0b", "rating": 4},
            "0: item_id is 'a\\x00b', expected text without control characters",
        ),
        ({"item_id": "x" * 201, "rating": 4}, "0.item_id: String should have at most 200 characters"),
        ({"item_id": "none of ours", "rating": 4}, "1 item id is not known: 'none of ours'; "),
        ({"item_id": "1'; DROP TABLE users; --", "rating": 4}, "1 item id is not known"),
        ([], "the body: List should have at least 1 item"),
        ("text", "the body: expected a valid list"),
        (None, "the body: "),
    ],
)
def test_wrong_events_are_refused_by_field(server, sent, said):
    assert said in refusal(server.post("/users/ann/events", json=sent), 422)
    refusal(server.get("/users/ann/history"), 404)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"item_id": "1", "rating": NaN}', "0: rating is nan, expected a number"),
        (b'{"item_id": "1", "rating": 1e999}', "0: rating is inf, expected a number"),
        (b'{"item_id": "1", "rating":', "not valid JSON: "),
        (b'{"item_id": "\xff", "rating": 4}', "not valid JSON: expected UTF-8 text"),
        (b'{"item_id": "\\ud800", "rating": 4}', "expected text without control characters"),
        (b'{"item_id": "1", "rating": ' + b"9" * 5000 + b"}", "not valid JSON: a number has too many digits"),
        (b'{"item_id": "1", "item_id": "2"}', "the key 'item_id' occurs twice in one object"),
        (b"[" * 100_000, "not valid JSON: nested too deeply"),
        (b"", "the body: is missing"),
    ],
)
def test_what_is_no_json_of_events_is_refused(server, body, said):
    answered = server.post("/users/ann/events", content=body, headers={"content-type": "application/json"})
    assert said in refusal(answered, 422)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"user_id": "b", "item_id": "1"}', "line 3: rating is missing, expected a number"),
        (b'{"item_id": "1", "rating": 4}', "line 3: user_id: is missing"),
        (b'{"user_id": "b/c", "item_id": "1", "rating": 4}', "line 3: user_id: String should match pattern"),
        (
            b'{"user_id": "..", "item_id": "1", "rating": 4}',
            "line 3: user_id: '.' and '..' have a meaning in URL paths",
        ),
        (b"{oops}", "line 3: not valid JSON"),
        (b'{"user_id": "\xff", "item_id": "1", "rating": 4}', "line 3: "),
        (b"[1]", "line 3: "),
        (b'{"user_id": "b", "item_id": "gone", "rating": 4}', "1 item id is not known: 'gone'"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_taken(server, line, said):
    good = json.dumps({"user_id": "ann", **EVENT}).encode()
    answered = server.post("/events", content=b"\n".join([good, b"", line, good]), headers=LINES)
    assert said in refusal(answered, 422)
    refusal(server.get("/users/ann/history"), 404)
    assert "no events" in refusal(server.post("/events", content=b"\n \n", headers=LINES), 422)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_a_foreign_page_can_send_unasked_is_refused(server, kind):
    headers = {} if kind is None else {"content-type": kind}
    line = json.dumps({"user_id": "ann", **EVENT}).encode()
    said = refusal(server.post("/events", content=line, headers=headers), 415)
    assert said.endswith("expected application/x-ndjson")
    for path, body in (("/users/ann/events", EVENT), ("/answers", {"questions": [QUESTION]})):
        refusal(server.post(path, content=json.dumps(body).encode(), headers=headers), 422)
    refusal(server.get("/users/ann/history"), 404)


def test_an_id_that_is_taken_is_a_conflict(server):
    server.post("/users/ann/events", json={**EVENT, "event_id": "a"})
    again = server.post("/users/ann/events", json=[EVENT, {**EVENT, "event_id": "a", "rating": 5}])
    assert "event 'a' of user 'ann' is already stored" in refusal(again, 409)
    assert server.get("/users/ann/history").json()["version"] == 1


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({}, "questions.0: expected either user_id or history"),
        ({"user_id": "ann", "history": []}, "questions.0: expected either user_id or history"),
        (
            {"history": [{"rating": 4}]},
            "questions.0.history.0: neither item_id nor title; expected one of them",
        ),
        (
            {"history": [{"item_id": "1", "rating": 4, "categories": ["x"]}]},
            "categories or description without a title",
        ),
        (
            {"history": [EVENT, {"item_id": "2", "rating": 4}]},
            "history.1: no timestamp, but other events have one",
        ),
        ({"history": [{"item_id": "1", "rating": 0.3}]}, "the rating 0.3 is not on the model's scale"),
        (
            {"history": [], "instruction": ""},
            "questions.0.instruction: String should have at least 1 character",
        ),
    ],
)
def test_wrong_questions_are_refused(server, question, said):
    assert said in refusal(server.post("/answers", json={"questions": [question]}), 422)


def test_one_new_item_has_one_text(server):
    history = [{"title": "A", "rating": 1}, {"title": "A", "categories": ["Drama"], "rating": 2}]
    said = refusal(server.post("/answers", json={"questions": [{"history": history}]}), 409)
    assert "history.1: item 'new: A' occurs earlier with other texts" in said


def test_an_unknown_user_is_told(server):
    for answered in (
        server.post("/answers", json={"questions": [QUESTION, {"user_id": "bob"}]}),
        server.get("/users/bob/history"),
        server.get("/users/bob/prompt"),
    ):
        assert "no user 'bob' in the store; add an event of this user first" in refusal(answered, 404)


@pytest.mark.parametrize(
    "user_id",
    ["ann@example.org", "Zoë \N{SNOWMAN}", "a b", "'; DROP TABLE users; --", "${7*7}", "nul", "a+b&c=d"],
)
def test_an_id_is_what_it_is(server, user_id):
    from urllib.parse import quote

    url = f"/users/{quote(user_id, safe='')}"
    assert server.post(f"{url}/events", json=EVENT).json()["user_id"] == user_id
    assert server.get(f"{url}/history").json()["user_id"] == user_id
    refusal(server.get("/users/ann/history"), 404)
    assert server.delete(url).json() == {"user_id": user_id, "events": 1, "exports": [], "left": []}


@pytest.mark.parametrize(
    "path", ["/users/%2e%2e/history", "/users/a%2fb/history", "/users/a%00/history", "/users/%ff/history"]
)
def test_no_path_leads_anywhere_else(server, path):
    refusal(server.get(path), server.get(path).status_code)
    assert server.get(path).status_code in (404, 422)


def test_unknown_routes_and_methods_are_problems(server):
    assert "no GET on this path; /docs lists the routes" in refusal(server.get("/nowhere"), 404)
    assert "no PUT on this path" in refusal(server.put("/model"), 405)


def test_a_deleted_user_is_gone_and_may_come_again(server, tmp_path):
    event = {**EVENT, "event_id": "an-id-of-anns"}
    server.post("/users/ann-the-user/events", json=event)
    server.post("/answers", json={"questions": [{"user_id": "ann-the-user"}]})
    assert server.delete("/users/ann-the-user").json() == {
        "user_id": "ann-the-user",
        "events": 1,
        "exports": [],
        "left": [],
    }
    data = b"".join(path.read_bytes() for path in tmp_path.glob("users.sqlite*"))
    assert b"ann-the-user" not in data
    assert b"an-id-of-anns" not in data
    assert server.delete("/users/ann-the-user").json()["events"] == 0
    refusal(server.get("/users/ann-the-user/prompt"), 404)
    assert server.post("/users/ann-the-user/events", json=event).json()["version"] == 1


def test_a_body_that_is_too_large_is_refused_however_it_comes(serve):
    server = serve(limits={"body_bytes": 1000})
    sent = json.dumps([EVENT] * 100).encode()

    def in_parts():
        for start in range(0, len(sent), 100):
            yield sent[start : start + 100]

    for body in (sent, in_parts()):
        for path in ("/users/ann/events", "/events"):
            headers = LINES if path == "/events" else {"content-type": "application/json"}
            answered = server.post(path, content=body, headers=headers)
            assert "the request body is larger than 1,000 bytes; send it in parts" in refusal(answered, 413)
            body = in_parts()
    assert server.post("/users/ann/events", json=EVENT).status_code == 200


def test_every_limit_has_its_answer(serve):
    server = serve(limits={"events": 3, "new_items": 3, "questions": 2, "instruction": 10})
    for path, sent, said in (
        ("/users/ann/events", [EVENT] * 4, "events: found 4, expected at most 3; send them in parts"),
        ("/items", {"items": [{"item_id": str(n), "title": "x"} for n in range(4)]}, "items: found 4"),
        ("/answers", {"questions": [QUESTION] * 3}, "questions: found 3, expected at most 2"),
        (
            "/answers",
            {"questions": [{"history": [EVENT] * 4}]},
            "questions.0.history: found 4 events, expected at most 3; give the most recent ones",
        ),
        (
            "/answers",
            {"questions": [{**QUESTION, "instruction": "x" * 11}]},
            "questions.0.instruction: found 11 characters, expected at most 10",
        ),
    ):
        assert said in refusal(server.post(path, json=sent), 422)
    lines = "\n".join([json.dumps({"user_id": "ann", **EVENT})] * 4)
    assert "events: found 4" in refusal(server.post("/events", content=lines, headers=LINES), 422)


@pytest.fixture
def held(monkeypatch):
    """Makes a server's backbone wait until it is let go."""
    holding = []

    def hold(server):
        begun, go_on = threading.Event(), threading.Event()
        batcher = server.app.app.state.service.batcher
        answer = batcher._answer

        def slowly(batch):
            begun.set()
            go_on.wait(20)
            return answer(batch)

        monkeypatch.setattr(batcher, "_answer", slowly)
        holding.append(go_on)
        return begun, go_on

    yield hold
    for go_on in holding:
        go_on.set()


def in_background(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    return thread, found


def test_more_than_can_wait_is_sent_away(serve, held):
    server = serve(limits={"waiting": 2, "batch": 1})
    begun, go_on = held(server)
    asked = [in_background(lambda: server.post("/answers", json={"questions": [QUESTION]})) for _ in range(1)]
    begun.wait(10)
    asked.append(in_background(lambda: server.post("/answers", json={"questions": [QUESTION] * 2})))
    while server.app.app.state.service.batcher.waiting < 2:
        time.sleep(0.01)
    answered = server.post("/answers", json={"questions": [QUESTION]})
    assert "2 questions are waiting already; try again in" in refusal(answered, 429)
    assert int(answered.headers["retry-after"]) >= 1
    assert server.get("/ready").status_code == 200
    go_on.set()
    for thread, found in asked:
        thread.join()
        assert found[0].status_code == 200


def test_more_requests_than_are_taken_at_a_time_are_sent_away(serve, held):
    server = serve(limits={"requests": 1})
    begun, go_on = held(server)
    thread, found = in_background(lambda: server.post("/answers", json={"questions": [QUESTION]}))
    begun.wait(10)
    answered = server.get("/model")
    assert "1 requests are pending; try again" in refusal(answered, 429)
    assert answered.headers["retry-after"] == "1"
    assert server.get("/health").json() == {"status": "alive"}
    go_on.set()
    thread.join()
    assert found[0].status_code == 200
    assert server.get("/model").status_code == 200


def test_a_request_ends_in_its_time_and_what_nobody_waits_for_is_not_answered(serve, held):
    server = serve(limits={"seconds": 0.3, "batch": 1})
    _, go_on = held(server)
    answered = server.post("/answers", json={"questions": [QUESTION] * 4})
    assert "the request took longer than 0.3 seconds; ask for less, or try again" in refusal(answered, 503)
    assert answered.headers["retry-after"]
    sizes = []
    batcher = server.app.app.state.service.batcher
    batcher._observe = sizes.append
    go_on.set()
    while batcher.waiting:
        time.sleep(0.01)
    assert len(sizes) <= 1  # the one that had begun


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StoreError("postgresql://me@db/x is away"), 503, "the user store is not available now; try again"),
        (
            StoreFullError("/data/users.sqlite: full"),
            507,
            "the server's disk is full; nothing of this request",
        ),
        (
            OutputError("/home/me/cache cannot be written"),
            507,
            "the server's disk is full; nothing of this request",
        ),
        (ZeroDivisionError("a secret"), 500, "the server failed; its log says more"),
    ],
)
def test_what_goes_wrong_inside_stays_inside(server, monkeypatch, error, status, said):
    def fail(*_arguments):
        raise error

    store = server.app.app.state.service.store
    for name in ("appending", "history"):
        monkeypatch.setattr(store, name, fail)
    for answered in (server.post("/users/ann/events", json=EVENT), server.get("/users/ann/history")):
        assert refusal(answered, status).startswith(said)
        assert ("retry-after" in answered.headers) == (status == 503)


def test_readiness_is_that_of_the_store(server, monkeypatch):
    assert server.get("/ready").json() == {"status": "ready"}

    def away():
        raise StoreError("away")

    monkeypatch.setattr(server.app.app.state.service.store, "check", away)
    refusal(server.get("/ready"), 503)
    assert server.get("/health").status_code == 200


def test_an_answer_needs_no_room_on_the_disk(server, monkeypatch):
    server.post("/users/ann/events", json=EVENT)

    def full(*_arguments):
        raise StoreFullError("full")

    monkeypatch.setattr(server.app.app.state.service.store, "keep", full)
    assert server.post("/answers", json={"questions": [{"user_id": "ann"}]}).status_code == 200


@pytest.mark.slow
def test_a_database_that_goes_away_and_comes_back(serve, postgres):
    server = serve(store=postgres.new_database("served"))
    assert server.post("/users/ann/events", json={**EVENT, "event_id": "a"}).status_code == 200
    postgres.stop()
    try:
        for answered in (
            server.post("/users/ann/events", json=EVENT),
            server.post("/answers", json={"questions": [{"user_id": "ann"}]}),
            server.get("/ready"),
        ):
            assert refusal(answered, 503) == "the user store is not available now; try again"
            assert answered.headers["retry-after"] == "2"
        assert server.post("/answers", json={"questions": [QUESTION]}).status_code == 200
    finally:
        postgres.start()
    assert server.get("/ready").status_code == 200
    assert server.post("/users/ann/events", json={**EVENT, "event_id": "a"}).json()["known"] == 1


@pytest.fixture
def guarded(serve, tmp_path):
    (tmp_path / "keys").write_text(f"# two keys\n{KEY}\n{'o' * 16}\n")
    return serve(key_file=tmp_path / "keys")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        KEY,
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY} x",
        "Bearer é",
    ],
)
def test_without_a_key_no_route_answers(guarded, header):
    headers = {} if header is None else {"Authorization": header.encode()}
    for path in ("/model", "/users/ann/history", "/metrics", "/openapi.json", "/nowhere"):
        answered = guarded.get(path, headers=headers)
        assert "no known API key; send it as  Authorization: Bearer KEY" in refusal(answered, 401)
        assert answered.headers["www-authenticate"] == "Bearer"
    assert guarded.get("/health", headers=headers).status_code == 200
    assert guarded.get("/ready", headers=headers).status_code == 200


@pytest.mark.parametrize("key", [KEY, "o" * 16])
def test_with_a_key_all_do_by_any_name(guarded, key):
    headers = {"Authorization": f"Bearer {key}", "Host": "palate.example.org"}
    assert guarded.get("/model", headers=headers).status_code == 200
    document = guarded.get("/openapi.json", headers=headers).json()
    assert document["security"] == [{"key": []}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found no API key, expected one per line"),
        (b"# none\n\n", "found no API key, expected one per line"),
        (b"short\n", "keys:1: not an API key; expected 16 or more letters and digits"),
        (b"k" * 16 + b"\ntwo words and more\n", "keys:2: not an API key"),
        (b"k" * 16 + b" and words\n", "keys:1: unknown or invalid option 'and' of a key"),
        (b"\xff\xfe", "the API keys cannot be read"),
    ],
)
def test_keys_that_are_none_are_refused(tmp_path, content, said):
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(DataError, match=said):
        Keys(tmp_path / "keys")
    with pytest.raises(DataError, match="the API keys cannot be read"):
        Keys(tmp_path / "gone")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ],
)
def test_without_keys_only_this_machine_is_served(server, host, status):
    assert server.get("/model", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "palate.example.org"])
def test_an_open_address_needs_keys(tmp_path, host):
    settings = ServeSettings(run=tmp_path, store="x", host=host)
    with pytest.raises(
        PalateError, match="is reachable from other machines, and there are no API keys; give --api-key-file"
    ):
        settings.check_host()
    settings.model_copy(update={"key_file": tmp_path / "keys"}).check_host()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_a_loopback_address_needs_none(tmp_path, host):
    ServeSettings(run=tmp_path, store="x", host=host).check_host()


@pytest.mark.parametrize("log_content", [False, True])
def test_the_log_names_users_only_when_asked(serve, caplog, log_content):
    caplog.set_level(logging.DEBUG)
    server = serve(log_content=log_content)
    server.post("/users/ann-the-user/events", json={**EVENT, "event_id": "her-event"})
    server.post("/users/ann-the-user/events", json={**EVENT, "event_id": "her-event", "rating": 2})
    server.post("/users/ann-the-user/events", json={"item_id": "her-film", "rating": 2})
    question = "What are the best and the worst genres for this user?"
    server.post("/answers", json={"questions": [{"user_id": "ann-the-user", "instruction": question}]})
    server.get("/users/ann-the-user%0aforged/history")
    lines = [record.getMessage() for record in caplog.records if record.name == "palate.serve"]
    written = "\n".join(lines)
    assert "POST" in written
    assert ("ann-the-user" in written) == log_content
    assert (question in written) == log_content
    assert "her-film" not in written
    assert not [line for line in lines if "\n" in line]
    if not log_content:
        everything = "\n".join(record.getMessage() for record in caplog.records if record.name != "httpx")
        assert "her-event" not in everything


def test_metrics_count_by_route_and_name_nobody(server):
    server.post("/users/ann-the-user/events", json=EVENT)
    server.get("/users/ann-the-user/history")
    for _ in range(2):
        server.post("/answers", json={"questions": [{"user_id": "ann-the-user"}]})
    found = server.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'palate_requests_total{method="GET",route="/users/{user_id}/history",status="200"}' in found.text
    assert 'palate_user_prompts_total{source="kept"}' in found.text
    assert "ann-the-user" not in found.text


def test_the_model_is_described(server, model):
    facts = server.get("/model").json()
    assert facts["instruction"] == model.settings.instruction
    assert "\nlibrary_name: palate\n" in facts["card"]
    assert facts["ratings"] == [1, 2, 3, 4, 5]
    assert facts["reads"] == "the whole history"
    assert facts["limits"]["questions"] == 32


def test_the_document_describes_every_route_with_its_problems(server):
    document = server.get("/openapi.json").json()
    assert document["paths"]["/users/{user_id}/events"]["post"]["responses"]["409"]["content"].keys() == {
        "application/problem+json"
    }
    assert "Problem" in document["components"]["schemas"]
    assert server.get("/docs").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("waiting", "--limit waiting: expected NAME=VALUE with one of body_bytes, body_seconds"),
        ("wait=1", "--limit wait=1: expected NAME=VALUE"),
        ("waiting=many", "--limit waiting: expected a valid integer"),
        ("seconds=0", "--limit seconds: expected greater than 0"),
    ],
)
def test_limits_are_checked(change, said):
    with pytest.raises(PalateError, match=said):
        read_limits([change])
    assert read_limits(["waiting=5", "seconds=0.5"]).waiting == 5


def test_sent_events_are_what_the_store_keeps():
    assert SentEvent(**EVENT).event(None, "").timestamp == 5
