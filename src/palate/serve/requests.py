"""Requests whose JSON is read as that of files is: see :mod:`palate.data.json_text`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from palate.data.json_text import read_json


class JsonRequest(Request):
    """A request that refuses JSON of which something would be lost."""

    async def json(self) -> Any:
        """The body; raises ``JSONDecodeError``, which FastAPI answers with 422."""
        return read_json(await self.body())


class JsonRoute(APIRoute):
    """A route that is given :class:`JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the reading of the body."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return read
