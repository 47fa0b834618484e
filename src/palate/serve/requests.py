"""Parsing of request bodies: strict JSON, and NDJSON of several users' events."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Message, Receive

from palate.data.event_types import Unrated
from palate.data.json_text import filled_lines, read_json
from palate.errors import DataError
from palate.serve.problems import faults_of
from palate.serve.schemas import UsersEvent
from palate.serve.settings import Limits
from palate.serve.store.changes import Event

SMALL = 1 << 16
"""Maximum size in bytes of a body that is parsed on the event loop; larger ones are checked and parsed in a thread."""
VALUES = 40
"""Maximum number of JSON values in a body, as a multiple of the maximum number of events."""

FIELDS = 100
"""Maximum number of fields of a JSON object."""


def replayed(message: Message, receive: Receive) -> Receive:
    """Return a receive callable that yields a received message once, and then the following ones."""
    left = [message]
    del message

    async def receive_on() -> Message:
        return left.pop() if left else await receive()

    return receive_on


class JsonRequest(Request):
    """A request with strict JSON parsing."""

    parsed: Any = None
    """Parsed and validated content of a large body; None for a small one."""

    async def json(self) -> Any:
        """Parse the body; raises ``JSONDecodeError``, which FastAPI converts to status 422."""
        return read_json(await self.body()) if self.parsed is None else self.parsed


class JsonRoute(APIRoute):
    """Route class with :class:`JsonRequest` that parses large bodies in a thread, off the event loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler with strict parsing of the body."""
        handle = super().get_route_handler()
        field = self.body_field

        async def read(request: Request) -> Response:
            made = JsonRequest(request.scope, request.receive)
            kind = made.headers.get("content-type", "").partition(";")[0].strip().lower()
            if field is not None and kind.endswith(("/json", "+json")):
                body = await made.body()
                if len(body) > SMALL:
                    made.parsed = await made.app.state.service.parsing(lambda: _parsed(made, body, field))
            return await handle(made)

        return read


def _parsed(request: Request, body: bytes, field: Any) -> Any:
    """Parse a body, and validate it by the field that its route declares.

    Raises:
        DataError: The body exceeds a limit.
        RequestValidationError: The body is invalid.
    """
    limits: Limits = request.app.state.service.limits
    if (found := values_in(body, VALUES * limits.events)) > VALUES * limits.events:
        raise DataError(
            f"the body: found {found:,} values, more than {limits.events:,} events have; send them in parts"
        )
    try:
        value = read_json(body)
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}}
        raise RequestValidationError([fault]) from None
    if (found := _entries(value)) > limits.events + limits.questions:
        raise DataError(
            f"the body: found {found:,} events and items, expected at most {limits.events:,}; send them in parts"
        )
    parsed, faults = field.validate(value, {}, loc=("body",))
    if faults:
        raise RequestValidationError(faults)
    return parsed


def values_in(body: bytes, enough: int) -> int:
    """Estimate the number of values in a JSON text by counting commas and opening brackets, without parsing.

    Args:
        body: The text as UTF-8.
        enough: Limit of interest: up to this count, commas and brackets inside strings are included, for speed.

    Returns:
        An upper bound, which exceeds the number of values by at most the number of opening brackets.
    """
    if (roughly := sum(map(body.count, (b",", b"[", b"{")))) <= enough:
        return roughly
    plain = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    inside = np.logical_xor.accumulate(plain == ord('"'))
    marks = (plain == ord(",")) | (plain == ord("[")) | (plain == ord("{"))
    return int(np.count_nonzero(marks & ~inside))


def _entries(value: Any) -> int:
    """Count the objects in lists, which are events, items or questions; raises DataError for too many fields."""
    if isinstance(value, dict):
        if len(value) > FIELDS:
            raise DataError(
                f"the body: found an object with {len(value):,} fields, expected at most {FIELDS}; see /docs for them"
            )
        return sum(_entries(one) for one in value.values() if isinstance(one, (dict, list)))
    if isinstance(value, list):
        return sum(1 + _entries(one) for one in value if isinstance(one, dict))
    return 0


NDJSON = "application/x-ndjson"


def events_by_user(body: bytes, unrated: Unrated, most: int) -> dict[str, list[Event]]:
    """Parse NDJSON and group the events by user, in the order of the lines.

    Args:
        body: The lines, as UTF-8 with or without a byte order mark; blank lines are skipped.
        unrated: Value of an event without a rating, or weights of event types; None if a rating is required.
        most: Maximum number of lines.

    Raises:
        DataError: A line is not a valid event, or there are no events or too many.
    """
    if (lines := body.count(b"\n") + body.count(b"\r")) > 2 * most + 2:  # a line may end with both
        raise DataError(
            f"events: found {lines:,} line ends, expected at most {most:,} events; send them in parts"
        )
    by_user: dict[str, list[Event]] = {}
    for number, line in filled_lines(body):
        try:
            sent = UsersEvent.model_validate(read_json(line))
        except json.JSONDecodeError as error:
            raise DataError(f"line {number}: not valid JSON: {error.msg}") from None
        except ValidationError as error:
            fault = faults_of(error.errors(include_input=False)).removeprefix("the body: ")
            raise DataError(f"line {number}: {fault}") from None
        by_user.setdefault(sent.user_id, []).append(sent.event(unrated, f"line {number}"))
    if not by_user:
        raise DataError(f"found no events, expected {NDJSON} with one event per line")
    return by_user
