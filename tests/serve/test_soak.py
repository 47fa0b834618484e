"""Ten minutes of good and hostile traffic: what the good ones get, and what it costs the server.

Slices of time with the hostile clients and without them alternate, so that what else the machine does weighs on both
alike. Good clients, hostile ones and the one that asks ``/health`` run in processes of their own: none waits for
another's interpreter. ``PALATE_SOAK_SECONDS`` sets another length, ``PALATE_SOAK_REPORT`` a file for the figures.
"""

import json
import multiprocessing
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
SLICES = 20
SETTLING = min(5.0, SECONDS / SLICES / 3)
"""Seconds of a slice that are not compared: what the one before has begun is still under way."""
WARM = SLICES // 2
"""Slices after which memory is compared: by then each bounded store of the server (threads, connections, parsed bodies,
vectors of texts) has been filled by thousands of requests, and what grows on is not bounded."""
GOOD, HOSTILE = 40, 24
ITEMS = 60
BODY = 8 * 2**20 - 64
ONE = b'{"item_id":1,"rating":4},'
BODIES = {
    "faults": b'{"history":[' + b"{}," * (BODY // 3) + b"{}]}",
    "valid": b'{"history":[' + ONE * 9_999 + ONE[:-1] + b"]}",
    "keys": b"{" + b",".join(b'"%d":1' % n for n in range(600_000)) + b"}",
}
KINDS = (*BODIES, "half", "slow", "items", "delete", "gone", "prefix", "proxy")


class Visitor(threading.Thread):
    """Works until it is told to stop; notes when each request began, its seconds and its status."""

    def __init__(self, url, number):
        super().__init__(daemon=True)
        self.url, self.number, self.draw = url, number, random.Random(number)
        self.stopped, self.allowed, self.asked = threading.Event(), threading.Event(), []

    def run(self):
        with httpx.Client(base_url=self.url, timeout=90) as http:
            while not self.stopped.is_set():
                if self.allowed.wait(0.5):
                    self.act(http)

    def act(self, http):
        raise NotImplementedError

    def ask(self, http, method, path, **content):
        began = time.monotonic()
        status = http.request(method, path, **content).status_code
        self.asked.append((began, time.monotonic() - began, status))
        return status


class Good(Visitor):
    """Sends events of a user of its own and asks about them; knows which were acknowledged."""

    def __init__(self, url, number):
        super().__init__(url, number)
        self.user, self.sent = f"good-{number}", 0

    def act(self, http):
        event = {"event_id": f"{self.sent}", "item_id": str(self.draw.randrange(ITEMS) + 1), "rating": 4}
        if self.ask(http, "POST", f"/users/{self.user}/events", json=event) == 200:
            self.sent += 1
        if self.sent:
            self.ask(http, "GET", f"/users/{self.user}/history")
            if self.draw.random() < 0.1:
                self.ask(http, "POST", "/answers", json={"questions": [{"user_id": self.user}]})
        self.stopped.wait(0.5 + self.draw.random())


class Hostile(Visitor):
    """Does one after the other of what servers have been taken down by."""

    def act(self, http):
        with suppress(httpx.TransportError, OSError):
            kind = self.draw.choice(KINDS)
            if kind in BODIES:
                kinds = {"Content-Type": "application/json"}
                self.ask(http, "POST", "/views", content=BODIES[kind], headers=kinds)
            else:
                getattr(self, kind)(http)
        self.stopped.wait(1 + 2 * self.draw.random())

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
        self.ask(http, "POST", "/views", json={"history": new})

    def delete(self, http):
        self.ask(http, "DELETE", f"/users/nobody-{self.draw.randrange(10**6)}")

    def gone(self, http):
        with suppress(httpx.ReadTimeout):
            http.post("/attributions", json={"history": [{"item_id": "1", "rating": 4}] * 50}, timeout=0.05)

    def prefix(self, http):
        self.ask(http, "GET", "/users?starting=%00")

    def proxy(self, http):
        self.ask(http, "GET", "/users", headers={"X-Forwarded-For": "203.0.113.7"})


class Health(Visitor):
    """Asks four times a second whether the server is alive."""

    def act(self, http):
        with httpx.Client(base_url=self.url, timeout=60) as anew:
            self.ask(anew, "GET", "/health")
        self.stopped.wait(0.25)


def visiting(kind, url, count, line):
    """Run visitors in this process, as the other end of the line says: go, rest, or end and tell."""
    visitors = [kind(url, number) for number in range(count)]
    for one in visitors:
        one.start()
    while (said := line.recv()) != "end":
        for one in visitors:
            (one.allowed.set if said == "go" else one.allowed.clear)()
    for one in visitors:
        one.stopped.set()
    for one in visitors:
        one.join(120)
    line.send([(one.asked, getattr(one, "sent", 0)) for one in visitors])


class Crowd:
    """Visitors in a process of their own."""

    def __init__(self, kind, url, count):
        self.line, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=visiting, args=(kind, url, count, other), daemon=True
        )
        self.process.start()

    def tell(self, what):
        self.line.send(what)

    def end(self):
        """Stop; gives what each visitor has asked, and how many events of it were acknowledged."""
        self.tell("end")
        found = self.line.recv()
        self.process.join()
        return found


def memory(server):
    """Megabytes of the server's processes."""
    group, pages = server.process.pid, 0
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if os.getpgid(int(place.name)) == group:
                pages += int((place / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def alternate(server, hostile):
    """Let hostile clients work in every other slice; gives the slices' starts and the memory after each."""
    starts, megabytes = [], []
    for number in range(SLICES):
        hostile.tell("go" if number % 2 else "rest")
        starts.append(time.monotonic())
        time.sleep(SECONDS / SLICES)
        megabytes.append(memory(server))
    return starts, megabytes


def p99s(good, starts):
    """The 99th percentiles of the good requests' seconds, without hostile ones and beside them."""
    beside = {0: [], 1: []}
    for asked, _ in good:
        for began, seconds, _ in asked:
            number = int(np.searchsorted(starts, began)) - 1
            if number >= 0 and began - starts[number] >= SETTLING:
                beside[number % 2].append(seconds)
    return [float(np.quantile(beside[one], 0.99)) for one in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_good_clients_among_hostile_ones(run, tmp_path, request, kind, workers):
    store = tmp_path / "users.sqlite"
    if kind == "postgresql":
        store = request.getfixturevalue("postgres").new_database(f"soak{workers}")
    with started(run, tmp_path, "--store", store, "--workers", workers) as server:
        crowds = [Crowd(*one) for one in ((Good, server.url, GOOD), (Health, server.url, 1))]
        hostile = Crowd(Hostile, server.url, HOSTILE)
        for one in crowds:
            one.tell("go")
        starts, megabytes = alternate(server, hostile)
        refused = hostile.end()
        good, health = (one.end() for one in crowds)
        kept = []
        for number in range(GOOD):
            found = httpx.get(f"{server.url}/users/good-{number}/prompt", timeout=60)
            assert found.status_code == 200
            kept.append(int(found.headers["etag"].strip('"')))
        log = len(server.said)
    alone, beside = p99s(good, starts)
    slowest = max(seconds for asked, _ in health for _, seconds, _ in asked)
    statuses = [status for crowd in (good, refused, health) for asked, _ in crowd for *_, status in asked]
    figures = {
        "store": kind,
        "workers": workers,
        "seconds": SECONDS,
        "good requests": sum(len(asked) for asked, _ in good),
        "hostile requests": sum(len(asked) for asked, _ in refused),
        "p99 alone, s": round(alone, 3),
        "p99 beside hostile, s": round(beside, 3),
        "slowest health, s": round(slowest, 3),
        "megabytes after each slice": [round(one) for one in megabytes],
        "lost": sum(sent for _, sent in good) - sum(kept),
        "log, bytes": log,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
    }
    if report := os.environ.get("PALATE_SOAK_REPORT"):
        with Path(report).open("a") as file:
            file.write(json.dumps(figures) + "\n")
    assert kept == [sent for _, sent in good], "an acknowledged event is not kept"
    assert {status for status in statuses if status >= 500} <= {503}
    assert {status for asked, _ in health for *_, status in asked} == {200}
    assert log < 10e6
    assert megabytes[-1] < 1.1 * megabytes[WARM - 1]
    assert slowest < 0.5
    assert beside < 3 * alone
