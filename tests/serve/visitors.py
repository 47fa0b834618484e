"""Clients in separate processes: well-behaved ones, hostile ones, and one that polls the server's health."""

import multiprocessing
import random
import socket
import threading
import time
from contextlib import suppress

import httpx

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
    """Sends requests until told to stop; records each request's start, duration and status."""

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
    """Sends events of one user and asks about that user; remembers which events were acknowledged."""

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
    """Cycles through attacks that have taken servers down."""

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
    """Polls the server's health four times a second."""

    def act(self, http):
        with httpx.Client(base_url=self.url, timeout=60) as anew:
            self.ask(anew, "GET", "/health")
        self.stopped.wait(0.25)


def visiting(kind, url, count, line):
    """Run visitors in this process, on commands from a pipe: go, rest, or end and report."""
    visitors = [kind(url, number) for number in range(count)]
    for one in visitors:
        one.start()
    line.send("ready")
    while (said := line.recv()) != "end":
        for one in visitors:
            (one.allowed.set if said == "go" else one.allowed.clear)()
    for one in visitors:
        one.stopped.set()
    for one in visitors:
        one.join(120)
    line.send([(one.asked, getattr(one, "sent", 0)) for one in visitors])


class Crowd:
    """Visitors in a separate process."""

    def __init__(self, kind, url, count):
        self.line, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=visiting, args=(kind, url, count, other), daemon=True
        )
        self.process.start()
        self.line.recv()

    def tell(self, what):
        self.line.send(what)

    def end(self):
        """Stop; return each visitor's requests, and its number of acknowledged events."""
        self.tell("end")
        found = self.line.recv()
        self.process.join()
        return found
