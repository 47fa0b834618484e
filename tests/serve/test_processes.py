"""Server processes: killed under load, stopped, with several workers, and started with invalid options."""

import random
import socket
import sys
import threading
import time

import httpx
import pytest
from typer.testing import CliRunner

import palate
from palate.cli import app
from palate.serve.run import _listen
from palate.serve.settings import ServeSettings
from palate.serve.store.changes import Event
from palate.serve.store.store import UserStore
from palate.system.extras import install_line
from serving import started

ITEMS = 60


class Writer(threading.Thread):
    """Sends events one after the other until the server is gone; knows which were acknowledged."""

    def __init__(self, url, name, first=0):
        super().__init__()
        self.url, self.writer, self.number, self.acknowledged = url, name, first, []

    def event(self, number):
        return {
            "event_id": f"{self.writer}-{number}",
            "item_id": str(number % ITEMS + 1),
            "rating": 4,
            "timestamp": 7,
        }

    def user(self, number):
        return f"{self.writer}-{number // ITEMS}"

    def run(self):
        with httpx.Client(base_url=self.url, timeout=10) as http:
            while True:
                try:
                    sent = http.post(f"/users/{self.user(self.number)}/events", json=self.event(self.number))
                    if sent.status_code != 200:
                        return
                except httpx.HTTPError:
                    return
                self.acknowledged.append(self.number)
                self.number += 1


def kill_and_check(run, folder, rounds, workers=1):
    store, numbers, draw = folder / "users.sqlite", [0, 0, 0], random.Random(0)
    for _ in range(rounds):
        with started(run, folder, "--store", store, "--workers", workers) as server:
            writers = [Writer(server.url, f"w{n}", numbers[n]) for n in range(3)]
            for writer in writers:
                writer.start()
            while not all(writer.acknowledged for writer in writers):
                time.sleep(0.01)
            time.sleep(draw.random() * 0.5)
            server.kill()
            for writer in writers:
                writer.join()
        opened = UserStore(store)
        for n, writer in enumerate(writers):
            # the last one was on its way: it is there or not, and being sent again makes no difference
            last = writer.number
            taken = opened.append({writer.user(last): [Event(**writer.event(last))]})[writer.user(last)]
            assert taken.new + taken.known == 1
            numbers[n] = last + 1
            for first in range(0, last + 1, ITEMS):
                found = opened.history(writer.user(first))
                ids = [f"{writer.writer}-{number}" for number in range(first, min(first + ITEMS, last + 1))]
                assert found.history.event_ids == ids
                assert found.version == len(ids)
        opened.close()


def test_what_was_acknowledged_survives_a_kill_and_nothing_is_doubled(run, tmp_path):
    kill_and_check(run, tmp_path, 1)


@pytest.mark.slow
def test_what_was_acknowledged_survives_fifty_kills(run, tmp_path):
    kill_and_check(run, tmp_path, 50)


@pytest.mark.slow
def test_what_two_workers_acknowledged_survives_five_kills(run, tmp_path):
    kill_and_check(run, tmp_path, 5, workers=2)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_under_way_when_the_server_is_told_to_stop_is_answered(run, tmp_path, workers):
    with started(run, tmp_path, "--workers", workers, "--store", tmp_path / "users.sqlite") as server:
        client = palate.Client(server.url)
        client.add_events("%41 b%2fc", [{"item_id": "1", "rating": 5}])
        assert client.history("%41 b%2fc")["user_id"] == "%41 b%2fc"
        text = client.answer("%41 b%2fc")
        assert {client.answer("%41 b%2fc") for _ in range(3 * workers)} == {text}
        found = []

        def ask():
            questions = [{"history": [{"item_id": "2", "rating": 1}]}] * 32
            found.append(httpx.post(f"{server.url}/answers", json={"questions": questions}, timeout=60))

        for _ in range(50):
            found.clear()
            asked = [threading.Thread(target=ask) for _ in range(3)]
            for thread in asked:
                thread.start()
            seen = False
            while not seen and not found:  # the three, and this one
                seen = "palate_requests_under_way 4.0" in httpx.get(f"{server.url}/metrics").text
            if seen:
                break
            for thread in asked:  # they were answered too soon to be seen
                thread.join()
        assert seen
        assert server.stop() == 0, server.said
        for thread in asked:
            thread.join()
    assert [one.status_code for one in found] == [200] * 3
    assert "Traceback" not in server.said
    assert f"serving on {server.url} without API keys, so for this machine alone" in server.said
    with pytest.raises(palate.PalateError, match=r"the server cannot be reached .*; is palate serve running"):
        palate.Client(server.url, tries=1).model()


@pytest.fixture
def refused(monkeypatch):
    monkeypatch.setenv("PALATE_STORE", "")

    def refuse(*arguments):
        done = CliRunner().invoke(app, ["serve", *map(str, arguments)])
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith("palate: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    return refuse


def test_the_end_of_an_answer_does_not_wait_for_an_acknowledgement(run, tmp_path):
    with _listen(ServeSettings(run=run, store=str(tmp_path / "users.sqlite"), port=0)) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_wrong_is_said_before_the_model_is_loaded(run, tmp_path, refused):
    store = tmp_path / "users.sqlite"
    (tmp_path / "keys").write_text("short")
    assert "no model here" in refused(tmp_path / "gone")
    assert "--host 0.0.0.0 is reachable from other machines" in refused(run, "--host", "0.0.0.0")
    assert "--limit waiting" in refused(run, "--limit", "waiting=0")
    assert "not an API key" in refused(run, "--host", "0.0.0.0", "--api-key-file", tmp_path / "keys")
    assert "invalid store, expected the path of an SQLite file" in refused(run, "--store", "mysql://x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused(run, "--port", port, "--store", store)


def test_a_missing_extra_names_its_command(monkeypatch, run, refused):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert refused(run) == (
        f"palate: a server needs fastapi, which is not installed; run {install_line('serve')}\n"
    )
