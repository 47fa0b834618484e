"""Middleware: API keys, host names, limits and the access log."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.errors import DataError
from palate.serve import metrics
from palate.serve.pages import is_page
from palate.serve.problems import TooMuchError, problem
from palate.serve.settings import Limits, is_loopback

LEAST = 16
"""Minimum length of a key in characters; shorter ones can be guessed."""


class Keys:
    """API keys, of which only digests are kept."""

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"no API keys can be read ({error}); give a file with a key a line", path
            ) from error
        numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
        keys = [(number, key) for number, key in numbered if key and not key.startswith("#")]
        for number, key in keys:
            if len(key) < LEAST or not key.isascii() or not key.isprintable() or " " in key:
                raise DataError(
                    f"not an API key; expected {LEAST} or more letters and digits, "
                    "as from  python -c 'import secrets; print(secrets.token_urlsafe())'",
                    path,
                    number,
                )
        if not keys:
            raise DataError("no API key; expected one a line", path)
        self._digests = [_digest(key) for _, key in keys]

    def knows(self, key: str) -> bool:
        """Return whether the key is valid, in constant time."""
        asked = _digest(key)
        matches = [hmac.compare_digest(asked, known) for known in self._digests]
        return any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


log = logging.getLogger("palate.serve")
OPEN = ("/health", "/ready")
"""Routes without key and limits, so that monitoring works while the server is busy."""


@dataclass
class Gate:
    """ASGI middleware around the application.

    Without keys, only names of this machine are served: a page in a browser cannot reach the server by a name of
    its own.
    """

    app: ASGIApp
    limits: Limits
    keys: Keys | None
    log_content: bool = False
    under_way: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or respond with an error."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        self.under_way += 1
        metrics.under_way.inc()
        try:
            with anyio.move_on_after(self.limits.seconds) as limit:
                await self._serve(scope, receive, send_on)
            if limit.cancelled_caught and not status:
                detail = f"not done in {self.limits.seconds:g} seconds; ask for less, or try again"
                await problem(503, detail, {"Retry-After": "2"})(scope, receive, send_on)
        except ClientDisconnect:
            status = 499  # nobody is there to be told
        finally:
            self.under_way -= 1
            metrics.under_way.dec()
            self._note(scope, status, time.monotonic() - started)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope["path"], headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _refusal(self, path: str, headers: dict[bytes, str]) -> Any:
        if self.keys is None:
            if not is_loopback(_without_port(headers.get(b"host", ""))):
                return problem(421, "without API keys only localhost is served; call it by that name")
        elif not is_page(path):
            kind, _, key = headers.get(b"authorization", "").partition(" ")
            if kind.lower() != "bearer" or not self.keys.knows(key.strip()):
                detail = "no known API key; send it as  Authorization: Bearer KEY"
                return problem(401, detail, {"WWW-Authenticate": "Bearer"})
        if self.under_way > self.limits.requests:
            return problem(
                429, f"{self.limits.requests} requests are under way; try again", {"Retry-After": "1"}
            )
        length = headers.get(b"content-length", "0")
        if length.isdigit() and int(length) > self.limits.body_bytes:
            return problem(413, self._too_large())
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Limit the received bytes, as a body may not declare its length."""
        got = 0

        async def receive_on() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.limits.body_bytes:
                raise TooMuchError(413, self._too_large())
            return message

        return receive_on

    def _too_large(self) -> str:
        return f"the body is larger than {self.limits.body_bytes:,} bytes; send it in parts"

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log a request by its route, which contains no user id."""
        route = getattr(scope.get("route"), "path", "none")
        metrics.requests.labels(_known_method(scope["method"]), route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        shown = scope["raw_path"].decode("latin-1") if self.log_content else route  # still one line of ASCII
        log.info("%s %s %d %.0f ms", _known_method(scope["method"]), shown, status, 1000 * seconds)


def _without_port(host: str) -> str:
    return host.split("]")[0] + "]" if host.startswith("[") else host.split(":")[0]


def _known_method(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
