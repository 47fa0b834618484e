"""Parsing of request bodies: strict JSON, and NDJSON of several users' events."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from palate.data.event_types import Unrated
from palate.data.json_text import filled_lines, read_json
from palate.errors import DataError
from palate.serve.problems import faults_of
from palate.serve.schemas import UsersEvent
from palate.serve.store.changes import Event


class JsonRequest(Request):
    """A request with strict JSON parsing."""

    async def json(self) -> Any:
        """Parse the body; raises ``JSONDecodeError``, which FastAPI converts to status 422."""
        return read_json(await self.body())


class JsonRoute(APIRoute):
    """Route class with :class:`JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler with strict parsing of the body."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return read


NDJSON = "application/x-ndjson"


def events_by_user(body: bytes, unrated: Unrated) -> dict[str, list[Event]]:
    """Parse NDJSON and group the events by user, in the order of the lines.

    Args:
        body: The lines, as UTF-8 with or without a byte order mark; blank ones are passed over.
        unrated: What an event counts without a rating, None where it needs one.

    Raises:
        DataError: A line is no event, or there is none.
    """
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
