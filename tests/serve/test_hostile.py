"""Hostile bodies, slow sockets and long requests neither block others nor leave partial changes."""

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from palate.items.encoder import ItemEncoder
from palate.serve import connections, engine, metrics, routes
from palate.serve.connections import GuardedProtocol, LimitedLines
from palate.serve.engine import Users
from palate.serve.keys import ANSWERS, Keys
from palate.serve.requests import values_in
from palate.serve.store import store
from palate.serve.store.store import UserStore
from serving import refusal, started

EVENT = {"item_id": "1", "rating": 4}
LARGEST = 8 * 2**20
MEGABYTES = 100


def filled(start, one, end):
    """A body of the largest size: as many copies as fit."""
    copies = (LARGEST - len(start) - len(end)) // (len(one) + 1)
    return start + ",".join([one] * copies) + end


BODIES = {
    "no events": ("/views", filled('{"history":[', "{}", "]}")),
    "events of unknown items": ("/views", filled('{"history":[', '{"item_id":"no","rating":9}', "]}")),
    "histories without events": ("/answers", filled('{"questions":[', '{"history":[{}]}', "]}")),
    "one question with many faults": ("/answers", filled('{"questions":[{"history":[', "{}", "]}]}")),
    "stored events": ("/users/ann/events", filled("[", "{}", "]")),
    "valid events": ("/users/ann/events", filled("[", '{"item_id":1,"rating":4}', "]")),
    "items": ("/items", filled('{"items":[', "{}", "]}")),
    "categories": ("/items", filled('{"items":[{"item_id":"n","title":"N","categories":[', '"ab"', "]}]}")),
    "numbers": ("/views", filled('{"history":[', "1.5", "]}")),
    "keys": ("/views", "{" + ",".join(f'"{n}":1' for n in range(700_000)) + "}"),
    "depth": ("/views", "[" * LARGEST),
    "lines": ("/events", "{}\n" * (LARGEST // 3)),
}


@pytest.fixture(scope="module")
def process(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with started(run, folder, "--store", folder / "users.sqlite") as server:
        yield server


def peak_megabytes(server):
    """The most memory that the process has had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES)
def test_a_body_of_many_faults_is_refused_with_little_memory(process, path, body):
    kind = "application/x-ndjson" if path == "/events" else "application/json"
    before = peak_megabytes(process)
    answer = httpx.post(process.url + path, content=body, headers={"Content-Type": kind}, timeout=60)
    assert len(refusal(answer, 422)) < 2_000
    assert peak_megabytes(process) - before < MEGABYTES
    assert httpx.get(f"{process.url}/users").json() == {"users": []}


TEXTS = st.text('a\\",[{')
VALUES = st.recursive(TEXTS | st.integers(), lambda one: st.lists(one) | st.dictionaries(TEXTS, one))


@given(VALUES)
def test_values_are_counted_as_the_parser_finds_them(value):
    def count(one):
        if isinstance(one, dict):
            return 1 + max(len(one) - 1, 0) + sum(map(inside, one.values()))
        if isinstance(one, list):
            return 1 + max(len(one) - 1, 0) + sum(map(inside, one))
        return 0

    def inside(one):
        return count(one) if isinstance(one, (dict, list)) else 0

    assert values_in(json.dumps(value).encode(), 0) == count(value)


@pytest.fixture
def guarded(monkeypatch):
    """Serves a trivial application with the server's connections; gives its address."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"alive"})

    monkeypatch.setattr(connections, "SECONDS", 0.3)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=GuardedProtocol, ws="none", lifespan="off", log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[:2]
    server.should_exit = True
    thread.join()


def ends(connection):
    """Wait until the server closes the connection."""
    connection.settimeout(30)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_connection_without_a_whole_head_is_closed(guarded, sent):
    with socket.create_connection(guarded) as connection:
        connection.sendall(sent)
        assert ends(connection)


def test_the_next_head_of_a_connection_must_come_as_well(guarded):
    with socket.create_connection(guarded) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /")
        connection.settimeout(30)
        while connection.recv(1_000):
            pass


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (b"GET /", b"a"),
        (HEAD + b"X-Long: ", b"a"),
        (HEAD, b"X-Many: a\r\n"),
        (CHUNKED + b"1;", b"extension"),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"X-Trailer: a\r\n"),
    ],
    ids=["path", "a header", "headers", "a chunk's extension", "trailers"],
)
def test_what_a_request_has_besides_its_body_is_bounded(guarded, monkeypatch, begins, goes_on):
    monkeypatch.setattr(connections, "SECONDS", 60.0)
    monkeypatch.setattr(connections, "HEAD_BYTES", 4_000)
    part = goes_on * 100
    with socket.create_connection(guarded) as connection:
        connection.settimeout(30)
        connection.sendall(begins)
        with pytest.raises(OSError):  # noqa: PT011, PT012 - reset or broken pipe: the server has closed the connection
            for _ in range(200_000):
                connection.sendall(part)


def test_small_chunks_of_a_large_body_are_taken(guarded):
    with socket.create_connection(guarded) as connection:
        connection.settimeout(30)
        connection.sendall(CHUNKED)
        for _ in range(200):
            connection.sendall(b"1\r\na\r\n" * 500)
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")


def test_an_upgrade_is_answered_as_if_it_were_not_asked_for(guarded):
    with socket.create_connection(guarded) as connection:
        connection.settimeout(30)
        connection.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        said = b""
        while part := connection.recv(1_000):
            said += part
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"alive" in said


def test_those_that_say_nothing_cannot_keep_out_one_that_asks(guarded, monkeypatch):
    monkeypatch.setattr(connections, "SECONDS", 60.0)
    monkeypatch.setattr(connections, "most_connections", lambda: 20)
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(guarded)) for _ in range(50)]
        assert httpx.get("http://{}:{}".format(*guarded)).text == "alive"
        assert all(ends(one) for one in silent[:20])
        assert not GuardedProtocol.waiting or len(GuardedProtocol.waiting) <= 20


def test_more_half_open_connections_than_descriptors_do_no_harm(run, tmp_path):
    with (
        started(run, tmp_path, "--store", tmp_path / "users.sqlite", files=256) as server,
        ExitStack() as stack,
    ):
        host, _, port = server.url.removeprefix("http://").partition(":")
        for _ in range(300):
            half = stack.enter_context(socket.create_connection((host, int(port))))
            half.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(5):
            assert httpx.get(f"{server.url}/health", timeout=30).json() == {"status": "alive"}
        assert len(server.said) < 10_000


def test_lines_that_clients_cause_are_limited_and_counted(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: now[0]))
    limited = LimitedLines(lines=2, seconds=10)
    lines = [logging.LogRecord("uvicorn.error", 30, "", 0, "line %d", (n,), None) for n in range(6)]
    assert [limited.filter(line) for line in lines[:5]] == [True, True, False, False, False]
    now[0] += 10
    assert limited.filter(lines[5])
    assert lines[5].getMessage() == "line 5 (3 earlier lines were left out)"


def test_a_body_that_arrives_slowly_is_given_up_and_keeps_nobody_out(listening):
    url = listening(limits={"body_seconds": 0.3, "requests": 1})
    host, _, port = url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(3)]
        for connection in slow:
            connection.sendall(
                b"POST /answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
        assert httpx.get(f"{url}/model").status_code == 200
        for connection in slow:
            connection.settimeout(30)
            said = connection.recv(10_000)
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b"was not complete after 0.3 seconds" in said + connection.recv(10_000)


@pytest.fixture
def slow_encoder(monkeypatch):
    """Takes a while for each batch until it is told to go; knows the sizes of the batches."""
    batches, go, real = [], threading.Event(), ItemEncoder._forward

    def forward(self, batch):
        batches.append(len(batch))
        go.wait(0.2)
        return real(self, batch)

    monkeypatch.setattr(ItemEncoder, "_forward", forward)
    yield batches, go
    go.set()


def new_items(count, prefix="new"):
    return {"items": [{"item_id": f"{prefix}{n}", "title": f"{prefix} {n}"} for n in range(count)]}


def test_new_items_of_a_request_are_limited(server):
    said = refusal(server.post("/items", json=new_items(129)), 422)
    assert "items: found 129, expected at most 128; send them in parts" in said
    history = [{"title": f"film {n}", "rating": 4} for n in range(129)]
    said = refusal(server.post("/views", json={"history": history}), 422)
    assert "history: found 129 items as text, expected at most 128" in said


def test_encoding_ends_with_the_time_of_the_request_and_goes_on_where_it_was(serve, slow_encoder):
    batches, go = slow_encoder
    server = serve(limits={"seconds": 0.5})
    assert "longer than 0.5 seconds" in refusal(server.post("/items", json=new_items(128)), 503)
    begun = sum(batches)
    assert 0 < begun < 128
    go.set()
    assert server.post("/items", json=new_items(128)).status_code == 200
    assert sum(batches) == 128


def test_no_one_waits_behind_the_encoding_of_new_items(listening, slow_encoder):
    url = listening(limits={"seconds": 20})
    _, go = slow_encoder
    answers = []

    def add(number):
        answers.append(httpx.post(f"{url}/items", json=new_items(64, f"n{number}-"), timeout=60).status_code)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    while not answers:  # too many at once are refused
        time.sleep(0.01)
    for path in ("/ready", "/health", "/users", "/metrics"):
        assert httpx.get(url + path, timeout=30).status_code == 200
    assert httpx.post(f"{url}/users/ann/events", json=EVENT, timeout=30).status_code == 200
    go.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 429}


def test_what_is_refused_for_its_time_has_changed_nothing(serve, monkeypatch):
    check = Users.check

    def slowly(self, *rest):
        time.sleep(0.6)
        return check(self, *rest)

    server = serve(limits={"seconds": 0.3})
    monkeypatch.setattr(Users, "check", slowly)
    refusal(server.post("/users/ann/events", json=EVENT), 503)
    monkeypatch.setattr(Users, "check", check)
    assert server.get("/users/ann/history").status_code == 404


WRITES = {
    "an event": ("POST", "/users/bob/events", {"json": EVENT}),
    "lines": (
        "POST",
        "/events",
        {
            "content": b'{"user_id": "bob", "item_id": "1", "rating": 4}',
            "headers": {"Content-Type": "application/x-ndjson"},
        },
    ),
    "items": ("POST", "/items", {"json": {"items": [{"item_id": "new", "title": "New"}]}}),
    "no user": ("DELETE", "/users/ann", {}),
    "no event": ("DELETE", "/users/ann/events", {"params": {"item_id": "1"}}),
    "no item": ("DELETE", "/items", {"params": {"item_id": "x"}}),
}


def test_these_are_all_requests_that_change_the_store(server):
    reads = set(ANSWERS)  # all that a key that may only read may ask by POST
    reads.add("/upgrade")  # one row, and only with a previous model
    document = server.app.app.openapi()
    changing = {
        (method.upper(), path.replace("{user_id}", "ann"))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "get" and path not in reads
    }
    assert changing == {(method, path.replace("bob", "ann")) for method, path, _ in WRITES.values()}
    statuses = {
        status
        for methods in document["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert not {status for status in statuses if status.startswith("2")} - {"200"}


@pytest.mark.parametrize(("method", "path", "content"), WRITES.values(), ids=WRITES)
def test_every_change_is_refused_before_it_begins_or_finished(serve, monkeypatch, method, path, content):
    server, item = serve(), {"item_id": "x", "title": "X"}
    server.post("/items", json={"items": [item]}).raise_for_status()
    server.post("/users/ann/events", json=[EVENT, {"item_id": "x", "rating": 4}]).raise_for_status()
    users = server.app.app.state.service.store

    def kept():
        return [users.history(one).version for one in users.user_ids("", 9)], users.items()

    before, real, real_here = kept(), engine.committing, engine.committing_here

    def late():
        time.sleep(0.6)
        real()

    async def late_here():
        await anyio.sleep(0.6)
        await real_here()

    hurried = serve(limits={"seconds": 0.3})
    monkeypatch.setattr(engine, "committing_here", late_here)
    for module in (engine, routes):
        monkeypatch.setattr(module, "committing", late)
    assert "longer than 0.3 seconds" in refusal(hurried.request(method, path, **content), 503)
    assert kept() == before
    monkeypatch.undo()
    assert hurried.request(method, path, **content).status_code == 200
    assert kept() != before


@pytest.mark.parametrize(
    ("owner", "method"), [(store, "append_all"), (UserStore, "delete_user"), (UserStore, "delete_events")]
)
def test_what_is_being_kept_is_finished_and_said(serve, monkeypatch, owner, method):
    server = serve(limits={"seconds": 0.3})
    work = getattr(owner, method)

    def slowly(*rest):
        time.sleep(0.6)
        return work(*rest)

    if method != "append_all":
        assert server.post("/users/ann/events", json={**EVENT, "event_id": "e"}).status_code == 200
    monkeypatch.setattr(owner, method, slowly)
    if method == "append_all":
        assert server.post("/users/ann/events", json=EVENT).json()["new"] == 1
        assert len(server.get("/users/ann/history").json()["events"]) == 1
    elif method == "delete_user":
        assert server.delete("/users/ann").json()["events"] == 1
        assert server.get("/users/ann/history").status_code == 404
    else:
        assert server.delete("/users/ann/events", params={"event_id": "e"}).json()["events"] == 1


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_without_keys_nothing_is_served_through_a_proxy(server, serve, tmp_path, name):
    said = refusal(server.get("/users", headers={name: "203.0.113.7"}), 421)
    assert "without API keys requests through a proxy are refused" in said
    keys = tmp_path / "keys"
    keys.write_text("a-key-that-is-long-enough\n")
    guarded = serve(key_file=keys)
    headers = {name: "203.0.113.7", "Authorization": "Bearer a-key-that-is-long-enough"}
    assert guarded.get("/users", headers=headers).status_code == 200


def test_a_prefix_that_no_database_takes_is_refused(server):
    assert "starting" in refusal(server.get("/users?starting=%00"), 422)


def test_titles_of_added_items_are_read_from_the_store_once(server, monkeypatch):
    read, items = [], UserStore.items

    def counted(self, after=0):
        found = items(self, after)
        read.append(len(found[0]))
        return found

    server.post("/items", json=new_items(5))
    monkeypatch.setattr(UserStore, "items", counted)
    server.post("/users/ann/events", json=[{"item_id": f"new{n}", "rating": 4} for n in range(5)])
    for _ in range(4):
        events = server.get("/users/ann/history").json()["events"]
        assert [event["title"] for event in events] == [f"new {n}" for n in range(5)]
    assert sum(read) <= 5


def test_gauges_of_workers_that_were_killed_count_no_more(tmp_path, monkeypatch):
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    alive, gone = (tmp_path / f"gauge_livesum_{pid}.db" for pid in (os.getpid(), dead.pid))
    for path in (alive, gone):
        path.touch()
    metrics._forget_dead_workers(tmp_path)
    assert alive.exists()
    assert not gone.exists()


def test_a_system_without_a_limit_of_open_files_closes_silent_connections_alone(monkeypatch, caplog):
    """As Windows, whose Python has no module ``resource``."""
    monkeypatch.setitem(sys.modules, "resource", None)
    there = importlib.util.spec_from_file_location("palate_serve_elsewhere", connections.__file__)
    elsewhere = importlib.util.module_from_spec(there)
    there.loader.exec_module(elsewhere)
    assert elsewhere.most_connections() == sys.maxsize
    with caplog.at_level(logging.WARNING, "palate.serve"):
        connections.tell_if_unbounded()
        assert not caplog.messages
        elsewhere.tell_if_unbounded()
    assert [line[:41] for line in caplog.messages] == ["this system has no limit of open files: c"]


@pytest.mark.parametrize(("mode", "others"), [(0o600, False), (0o640, False), (0o644, True)])
def test_keys_that_everyone_may_read_are_noticed(tmp_path, mode, others):
    path = tmp_path / "keys"
    path.write_text("a-key-that-is-long-enough\n")
    path.chmod(mode)
    assert Keys(path).readable_by_others is others
