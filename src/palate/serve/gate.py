"""ASGI middleware around the application: API keys, host names, limits and the access log."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.serve import metrics
from palate.serve.keys import Keys
from palate.serve.pages import is_page
from palate.serve.problems import problem
from palate.serve.requests import SMALL, replayed
from palate.serve.settings import Limits, is_loopback
from palate.serve.waiting import Pace, limited

log = logging.getLogger("palate.serve")
OPEN = ("/health", "/ready")
"""Routes without API keys and limits, so that monitoring works while the server is busy."""
ASKER = "palate.key"
"""Key of a request's ASGI scope with the name of its API key."""
BODIES = 16
"""Memory limit for request bodies, as a multiple of the maximum body size."""
FORWARDING = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"via",
)
"""Headers that show that a proxy has forwarded a request."""


@dataclass
class Gate:
    """ASGI middleware that authenticates, limits and logs requests.

    Without API keys, only requests to loopback host names that no proxy has forwarded are accepted. This prevents DNS
    rebinding by web pages, and access through a proxy on this machine.

    A request counts as pending only after its body has been received, so that slow clients do not block others.
    """

    app: ASGIApp
    limits: Limits
    keys: Keys | None
    log_content: bool = False
    under_way: int = field(default=0, init=False)
    held: int = field(default=0, init=False)
    """Memory of all request bodies, in bytes."""
    pace: Pace = field(init=False)
    """Rate limit for receiving large bodies."""

    def __post_init__(self) -> None:
        self.pace = Pace(self.limits.body_rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request: check it, run the application, and log it."""
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
        try:
            await self._receive_and_serve(scope, receive, send_on)
        except ClientDisconnect:
            status = 499  # client closed request, in the log only
        finally:
            self._log(scope, status, time.monotonic() - started)

    async def _receive_and_serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        parts: list[bytes] = []
        held, received, begun = 0, False, False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            with limited(self.limits.body_seconds) as limit:
                refused = await self._receive(receive, parts) or self._busy()
                if refused is None:
                    received, limit.deadline = True, anyio.current_time() + self.limits.seconds
                    whole = b"".join(parts)
                    held = len(whole)
                    parts.clear()  # frees the second copy
                    replay = replayed({"type": "http.request", "body": whole, "more_body": False}, receive)
                    del whole
                    await self._serve(scope, replay, send_on)
            if limit.cancelled_caught and not begun:
                refused = self._late(received)
            if refused is not None:
                await refused(scope, receive, send)
        finally:
            self.held -= held or sum(map(len, parts))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and count the request as pending meanwhile."""
        self.under_way += 1
        metrics.under_way.inc()
        try:
            await self.app(scope, receive, send)
        finally:
            self.under_way -= 1
            metrics.under_way.dec()

    def _busy(self) -> Any:
        """Return the error response if too many requests are pending."""
        if self.under_way < self.limits.requests:
            return None
        detail = f"{self.limits.requests} requests are pending; try again"
        return problem(429, detail, {"Retry-After": "1"})

    def _late(self, received: bool) -> Any:
        """Return the error response to a request whose body, or once it was received whose answer, takes too long."""
        if not received:
            seconds = f"{self.limits.body_seconds:g} seconds"
            detail = f"the request body was not complete after {seconds}; send it in parts"
            return problem(408, detail, {"Connection": "close"})
        detail = f"the request took longer than {self.limits.seconds:g} seconds; ask for less, or try again"
        return problem(503, detail, {"Retry-After": "2"})

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> Any:
        if self.keys is None:
            if not is_loopback(_without_port(headers.get(b"host", ""))):
                return problem(
                    421, "without API keys only the host name localhost is served; use it in the URL"
                )
            if any(name in headers for name in FORWARDING):
                detail = "without API keys requests through a proxy are refused; start the server with --api-key-file"
                return problem(421, detail)
        elif not is_page(scope["path"]):
            refused = self._refused_key(self.keys, scope, headers)
            if refused is not None:
                return refused
        length = headers.get(b"content-length", "0")
        if length.isdigit() and int(length) > self.limits.body_bytes:
            return problem(413, self._too_large())
        return None

    def _refused_key(self, keys: Keys, scope: Scope, headers: dict[bytes, str]) -> Any:
        """Check the API key, its permission and its rate limit; returns the error response, or stores the name."""
        kind, _, sent = headers.get(b"authorization", "").partition(" ")
        key = keys.find(sent.strip()) if kind.lower() == "bearer" else None
        if key is None:
            detail = "no known API key; send it as  Authorization: Bearer KEY"
            return problem(401, detail, {"WWW-Authenticate": "Bearer"})
        if (refusal := key.refusal(scope["method"], scope["path"])) is not None:
            return problem(403, refusal)
        if wait := math.ceil(key.wait()):
            detail = f"the API key {key.name!r} is limited to {key.rate:g} requests a minute; try again in {wait} s"
            return problem(429, detail, {"Retry-After": str(wait)})
        scope[ASKER] = key.name
        return None

    async def _receive(self, receive: Receive, parts: list[bytes]) -> Any:
        """Receive a body into ``parts``; returns the error response if it exceeds a limit, declared or not."""
        more, size = True, 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if part := message.get("body", b""):
                parts.append(part)
            size += len(part)
            self.held += len(part)
            if size > SMALL:
                await self.pace.take(len(part))
            if size > self.limits.body_bytes:
                return problem(413, self._too_large())
            if self.held > BODIES * self.limits.body_bytes:
                return problem(429, "too many large request bodies at once; try again", {"Retry-After": "1"})
            more = message.get("more_body", False)
        return None

    def _too_large(self) -> str:
        return f"the request body is larger than {self.limits.body_bytes:,} bytes; send it in parts"

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log a request by its route, which contains no user id."""
        route = getattr(scope.get("route"), "path", "none")
        method = _known_method(scope["method"])
        metrics.counted_requests(method, route, str(status)).inc()
        metrics.timed_route(route).observe(seconds)
        shown = scope["raw_path"].decode("latin-1") if self.log_content else route  # still one line of ASCII
        log.info("%s %s %d %.0f ms", method, shown, status, 1000 * seconds)


def _without_port(host: str) -> str:
    return host.split("]")[0] + "]" if host.startswith("[") else host.split(":")[0]


def _known_method(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
