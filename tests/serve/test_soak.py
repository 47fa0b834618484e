"""Ten minutes of good and hostile traffic: what the good ones get, and what it costs the server.

``PALATE_SOAK_SECONDS`` sets another length, ``PALATE_SOAK_REPORT`` a file for the figures.
"""

import json
import os
import random
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from postgres import postgres  # noqa: F401 - a fixture

from serving import started

SECONDS = float(os.environ.get("PALATE_SOAK_SECONDS", "600"))
GOOD, HOSTILE = 40, 24
ITEMS = 60
BODY = 8 * 2**20 - 64
KINDS = ("faults", "valid", "keys", "half", "slow", "items", "delete", "gone", "prefix", "proxy")


class Client(threading.Thread):
    """Works until it is told to stop."""

    def __init__(self, url, number):
        super().__init__(daemon=True)
        self.url, self.number, self.draw = url, number, random.Random(number)
        self.stopped, self.statuses = threading.Event(), []

    def run(self):
        with httpx.Client(base_url=self.url, timeout=90) as http:
            while not self.stopped.is_set():
                self.act(http)

    def act(self, http):
        raise NotImplementedError


class Good(Client):
    """Sends events of a user of its own and asks about them; knows which were acknowledged, and how long it took."""

    def __init__(self, url, number):
        super().__init__(url, number)
        self.user, self.sent, self.seconds = f"good-{number}", [], []

    def act(self, http):
        event = {"event_id": f"{len(self.sent)}", "item_id": str(self.draw.randrange(ITEMS) + 1), "rating": 4}
        if self.ask(http, "POST", f"/users/{self.user}/events", json=event) == 200:
            self.sent.append(event["event_id"])
        if self.sent:
            self.ask(http, "GET", f"/users/{self.user}/history")
            if self.draw.random() < 0.1:
                self.ask(http, "POST", "/answers", json={"questions": [{"user_id": self.user}]})
        self.stopped.wait(0.5 + self.draw.random())

    def ask(self, http, method, path, **content):
        began = time.monotonic()
        status = http.request(method, path, **content).status_code
        self.seconds.append(time.monotonic() - began)
        self.statuses.append(status)
        return status


class Hostile(Client):
    """Does one after the other of what servers have been taken down by."""

    def act(self, http):
        with suppress(httpx.TransportError, OSError):
            status = getattr(self, self.draw.choice(KINDS))(http)
            if status is not None:
                self.statuses.append(status)
        self.stopped.wait(1 + 2 * self.draw.random())

    def post(self, http, path, body):
        return http.post(path, content=body, headers={"Content-Type": "application/json"}).status_code

    def faults(self, http):
        return self.post(http, "/views", '{"history":[' + "{}," * (BODY // 3) + "{}]}")

    def valid(self, http):
        one = '{"item_id":1,"rating":4},'
        return self.post(http, "/views", '{"history":[' + one * 9_999 + one[:-1] + "]}")

    def keys(self, http):
        return self.post(http, "/views", "{" + ",".join(f'"{n}":1' for n in range(600_000)) + "}")

    def half(self, http):
        host, _, port = self.url.removeprefix("http://").partition(":")
        opened = [socket.create_connection((host, int(port)), timeout=10) for _ in range(20)]
        for one in opened:
            one.sendall(b"GET / HTTP/1.1\r\n")
        self.stopped.wait(5)
        for one in opened:
            one.close()

    def slow(self, http):
        host, _, port = self.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as one:
            one.sendall(b"POST /answers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
            self.stopped.wait(5)

    def items(self, http):
        new = [{"title": f"film {self.draw.random()}", "rating": 4} for _ in range(100)]
        return self.post(http, "/views", json.dumps({"history": new}))

    def delete(self, http):
        return http.delete(f"/users/nobody-{self.draw.randrange(10**6)}").status_code

    def gone(self, http):
        with suppress(httpx.ReadTimeout):
            http.post("/attributions", json={"history": [{"item_id": "1", "rating": 4}] * 50}, timeout=0.05)

    def prefix(self, http):
        return http.get("/users?starting=%00").status_code

    def proxy(self, http):
        return http.get("/users", headers={"X-Forwarded-For": "203.0.113.7"}).status_code


class Health(Client):
    """Asks four times a second whether the server is alive."""

    def __init__(self, url):
        super().__init__(url, 0)
        self.seconds = []

    def act(self, http):
        began = time.monotonic()
        self.statuses.append(httpx.get(f"{self.url}/health", timeout=60).status_code)
        self.seconds.append(time.monotonic() - began)
        self.stopped.wait(0.25)


def memory(server):
    """Megabytes of the server's processes."""
    group, pages = server.process.pid, 0
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if os.getpgid(int(place.name)) == group:
                pages += int((place / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def during(seconds, clients):
    for one in clients:
        one.start()
    time.sleep(seconds)


def ended(clients):
    for one in clients:
        one.stopped.set()
    for one in clients:
        one.join(120)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_good_clients_among_hostile_ones(run, tmp_path, request, kind, workers):
    store = tmp_path / "users.sqlite"
    if kind == "postgresql":
        store = request.getfixturevalue("postgres").new_database(f"soak{workers}")
    with started(run, tmp_path, "--store", store, "--workers", workers) as server:
        calm = [Good(server.url, number) for number in range(GOOD)]
        during(SECONDS / 4, calm)
        ended(calm)
        good = [Good(server.url, 1_000 + number) for number in range(GOOD)]
        hostile = [Hostile(server.url, number) for number in range(HOSTILE)]
        health = Health(server.url)
        during(SECONDS / 4, [*good, *hostile, health])
        middle = memory(server)
        time.sleep(SECONDS / 2)
        last = memory(server)
        ended([*good, *hostile, health])
        kept = {}
        for one in (*calm, *good):
            found = httpx.get(f"{server.url}/users/{one.user}/prompt", timeout=60)
            assert found.status_code == 200
            kept[one.user] = int(found.headers["etag"].strip('"'))
        log = len(server.said)
    calmly, beside = (
        float(np.quantile([s for one in some for s in one.seconds], 0.99)) for some in (calm, good)
    )
    statuses = [status for one in (*calm, *good, *hostile, health) for status in one.statuses]
    figures = {
        "store": kind,
        "workers": workers,
        "seconds": SECONDS,
        "good requests": sum(len(one.seconds) for one in good),
        "hostile requests": sum(len(one.statuses) for one in hostile),
        "p99 alone, s": round(calmly, 3),
        "p99 beside hostile, s": round(beside, 3),
        "slowest health, s": round(max(health.seconds), 3),
        "megabytes, middle and end": [round(middle), round(last)],
        "log, bytes": log,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
    }
    if report := os.environ.get("PALATE_SOAK_REPORT"):
        with Path(report).open("a") as file:
            file.write(json.dumps(figures) + "\n")
    assert all(kept[one.user] == len(one.sent) for one in (*calm, *good)), "an acknowledged event is not kept"
    assert {status for status in statuses if status >= 500} <= {503}
    assert {status for one in health.statuses for status in [one]} == {200}
    assert log < 10e6
    assert last < 1.1 * middle
    assert max(health.seconds) < 0.5
    assert beside < 3 * calmly
