"""Middleware for the most frequent request, events of a user: calls the route's function without FastAPI's layers."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.data.json_text import read_json
from palate.errors import PalateError
from palate.serve.problems import problem_of
from palate.serve.requests import SMALL, replayed
from palate.serve.responses import Taken
from palate.serve.routes import EVENTS_PATH, add_events, router
from palate.serve.schemas import SentEvents, UserId

_BEFORE, _, _AFTER = EVENTS_PATH.partition("{user_id}")
_ROUTE = next(route for route in router.routes if getattr(route, "endpoint", None) is add_events)
_USER_ID: TypeAdapter[Any] = TypeAdapter(UserId)
_EVENTS: TypeAdapter[Any] = TypeAdapter(SentEvents)
_TAKEN = TypeAdapter(Taken)


class DirectEvents:
    """ASGI middleware that handles valid requests of :func:`~palate.serve.routes.add_events` itself.

    The user's id and the events are validated by the types that the route declares, and the route's own function adds
    them. Whatever is not valid, and every other request, is passed on, so that FastAPI words its error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the events of a request, or pass it on."""
        if not _is_of_events(scope):
            await self._app(scope, receive, send)
            return
        message = await receive()
        content = _read(scope["path"], message)
        if content is None:
            passed_on = replayed(message, receive)
            del message  # the body is large, perhaps
            await self._app(scope, passed_on, send)
            return
        scope["route"] = _ROUTE
        try:
            taken = await add_events(*content, scope["app"].state.service)
        except PalateError as error:
            response = problem_of(error)
        else:
            response = Response(_TAKEN.dump_json(taken), media_type="application/json")
        await response(scope, receive, send)


def _is_of_events(scope: Scope) -> bool:
    """Return whether a request may be one of :func:`add_events`, as most of its clients send it."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope.get("root_path"):
        return False
    path: str = scope["path"]
    if not (path.startswith(_BEFORE) and path.endswith(_AFTER)):
        return False
    return [value for name, value in scope["headers"] if name == b"content-type"] == [b"application/json"]


def _read(path: str, message: Message) -> tuple[str, Any] | None:
    """Return the user's id and the events; None if they are not valid, or large."""
    body = message.get("body", b"")
    if message["type"] != "http.request" or message.get("more_body") or len(body) > SMALL:
        return None
    try:
        user_id: str = _USER_ID.validate_python(path[len(_BEFORE) : -len(_AFTER)])
        return user_id, _EVENTS.validate_python(read_json(body))
    except (ValidationError, json.JSONDecodeError):
        return None
