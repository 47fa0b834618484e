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

from palate.data.event_types import Unrated
from palate.data.json_text import filled_lines, read_json
from palate.errors import DataError
from palate.serve.problems import faults_of
from palate.serve.schemas import UsersEvent
from palate.serve.settings import Limits
from palate.serve.store.changes import Event

SMALL = 1 << 16
"""Bytes of a body that is parsed on the event loop; others are parsed in a thread, after their sizes are checked."""
VALUES = 40
"""How many JSON values a body may have for each event that is allowed."""

FIELDS = 100
"""How many fields an object may have."""


class JsonRequest(Request):
    """A request with strict JSON parsing."""

    parsed: Any = None
    """What a large body was parsed and validated to."""

    async def json(self) -> Any:
        """Parse the body; raises ``JSONDecodeError``, which FastAPI converts to status 422."""
        return read_json(await self.body()) if self.parsed is None else self.parsed


class JsonRoute(APIRoute):
    """Route class with :class:`JsonRequest`; large bodies keep no other request waiting."""

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
    """Parse and validate a body by the field that its route declares for it.

    Raises:
        DataError: The body holds more than a request may.
        RequestValidationError: It is not valid.
    """
    limits: Limits = request.app.state.service.limits
    if (found := values_in(body, VALUES * limits.events)) > VALUES * limits.events:
        raise DataError(f"the body: found {found:,} values, more than {limits.events:,} events have")
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
    """Count the values of a JSON text from its commas and brackets, without parsing it.

    Args:
        body: The text as UTF-8.
        enough: Where there are no more commas and brackets, those in strings are counted, too, which is faster.

    Returns:
        At most as many more than there are values as the text has brackets.
    """
    if (roughly := sum(map(body.count, (b",", b"[", b"{")))) <= enough:
        return roughly
    plain = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    inside = np.logical_xor.accumulate(plain == ord('"'))
    marks = (plain == ord(",")) | (plain == ord("[")) | (plain == ord("{"))
    return int(np.count_nonzero(marks & ~inside))


def _entries(value: Any) -> int:
    """Count the objects that stand in lists: events, items and questions; raises DataError for a huge object."""
    if isinstance(value, dict):
        if len(value) > FIELDS:
            raise DataError(
                f"the body: found an object with {len(value):,} fields; see /docs for those that there are"
            )
        return sum(_entries(one) for one in value.values() if isinstance(one, (dict, list)))
    if isinstance(value, list):
        return sum(1 + _entries(one) for one in value if isinstance(one, dict))
    return 0


NDJSON = "application/x-ndjson"


def events_by_user(body: bytes, unrated: Unrated, most: int) -> dict[str, list[Event]]:
    """Parse NDJSON and group the events by user, in the order of the lines.

    Args:
        body: The lines, as UTF-8 with or without a byte order mark; blank ones are passed over.
        unrated: What an event weighs without a rating, None where it needs one.
        most: Maximum number of lines.

    Raises:
        DataError: A line is no event, or there is none, or there are too many.
    """
    if (lines := body.count(b"\n") + body.count(b"\r")) > 2 * most + 2:  # a line may end with both
        raise DataError(
            f"events: found {lines:,} ends of lines, expected at most {most:,} events; send them in parts"
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
        raise DataError(f"no events; expected {NDJSON}, an event a line")
    return by_user
