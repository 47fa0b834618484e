"""Clients that take as little of the machine as they can: sockets that stay open, and bytes made beforehand.

palate.Client and http.client take longer for a request than the server, and share its cores. A process of this module
has many connections and one thread, and of a response reads no more than its status and its length.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from serving_parts.load import summary

HEAD_END = b"\r\n\r\n"


def request(path: str, body: bytes, host: str, kind: str = "application/json") -> bytes:
    """Make the bytes of a POST, or without a body of a GET."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """A connection that sends requests in turns, and waits for the response of each."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = bytearray()

    def send(self, content: bytes) -> None:
        """Send a request."""
        self._read.clear()
        self.socket.sendall(content)

    def receive(self) -> int | None:
        """Read what has come; returns the status once the response is whole."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        self._read += part
        end = self._read.find(HEAD_END)
        if end < 0:
            return None
        head = bytes(self._read[:end]).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]) if len(self._read) >= end + len(HEAD_END) + length else None


def drive(url: str, clients: int, seconds: float, asked: Sequence[Sequence[bytes]]) -> dict[str, float]:
    """Let clients send the requests of each turn one after the other, turn after turn.

    Args:
        url: The server.
        clients: Number of connections.
        seconds: When no further turn is begun.
        asked: The requests of each turn.

    Returns:
        Turns a second and the percentiles of their times in milliseconds.
    """
    where = urlsplit(url)
    ready, times, failed, turn = selectors.DefaultSelector(), [], 0, 0
    started = time.perf_counter()
    under_way: dict[Connection, tuple[float, int, int]] = {}
    for _ in range(clients):
        one = Connection((where.hostname or "", where.port or 80))
        ready.register(one.socket, selectors.EVENT_READ, one)
        under_way[one] = time.perf_counter(), turn, 0
        one.send(asked[turn % len(asked)][0])
        turn += 1
    while under_way:
        for key, _ in ready.select():
            one = key.data
            status = one.receive()
            if status is None:
                continue
            began, at, step = under_way[one]
            now = time.perf_counter()
            failed += status != 200
            if status == 200 and step + 1 < len(asked[at % len(asked)]):
                under_way[one] = began, at, step + 1
                one.send(asked[at % len(asked)][step + 1])
                continue
            if status == 200:
                times.append(1000 * (now - began))
            if now - started < seconds:
                under_way[one] = now, turn, 0
                one.send(asked[turn % len(asked)][0])
                turn += 1
            else:
                del under_way[one]
                ready.unregister(one.socket)
                one.socket.close()
    told = summary(times or [0.0], time.perf_counter() - started, failed)
    return {**told, "all": len(times) + failed}


def drive_apart(
    url: str, clients: int, seconds: float, asked: Sequence[Sequence[tuple[str, str]]], folder: Path
) -> dict[str, float]:
    """Do what :func:`drive` does in a process of its own; requests are paths and bodies."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"url": url, "clients": clients, "seconds": seconds, "asked": asked}))
    done = subprocess.run(
        [sys.executable, "-m", "serving_parts.raw", str(plan)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run a plan of :func:`drive_apart`."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    host = urlsplit(plan["url"]).netloc
    asked = [[request(path, body.encode(), host) for path, body in turn] for turn in plan["asked"]]
    print(json.dumps(drive(plan["url"], plan["clients"], plan["seconds"], asked)))


if __name__ == "__main__":
    main()
