"""Lean HTTP clients: persistent sockets that send prebuilt bytes.

palate.Client and http.client take longer for a request than the server, and share its cores. A process of this module
has many connections and one thread, and parses only the status and length of a response.
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
    """Build the bytes of a POST request, or of a GET without a body."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """A connection that sends requests in turn and waits for each response."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = bytearray()

    def send(self, content: bytes) -> None:
        """Send a request."""
        self._read.clear()
        self.socket.sendall(content)

    def receive(self) -> int | None:
        """Read available bytes; return the status once the response is complete."""
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
    """Let clients send the requests of each turn in sequence, turn after turn.

    Args:
        url: URL of the server.
        clients: Number of connections.
        seconds: Duration, after which no turn starts.
        asked: Requests of each turn.

    Returns:
        Turns per second, and percentiles of their durations in milliseconds.
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
    """Run :func:`drive` in a separate process; requests are given as paths and bodies."""
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
