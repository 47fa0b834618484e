"""Conversion of errors to responses: RFC 9457 problem details, or OpenAI error objects."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from palate.errors import (
    ConflictError,
    EngineBusyError,
    EngineError,
    EngineTimeoutError,
    NotServedError,
    OutputError,
    PalateError,
    StoreError,
    StoreFullError,
    UnknownUserError,
    fault_message,
)
from palate.serve.batcher import OverloadedError
from palate.serve.openai_schemas import openai_error

log = logging.getLogger("palate.serve")
MEDIA_TYPE = "application/problem+json"
OPENAI = "/v1/"
"""Path prefix of the OpenAI-compatible routes."""
SHOWN = 20
"""Maximum number of validation errors in a response."""
RETRY_AFTER = 2
"""Retry-After of an unavailable store, in seconds."""
ROUTE = {404: "on this path; /docs lists the routes", 405: "on this path; the header Allow lists the methods"}
FULL = "the server's disk is full; nothing of this request was stored, and a deletion is complete only when repeated"
_STATUS: tuple[tuple[type[PalateError], int], ...] = (
    (UnknownUserError, 404),
    (NotServedError, 404),
    (ConflictError, 409),
    (OverloadedError, 429),
    (EngineBusyError, 503),
    (EngineTimeoutError, 504),
    (EngineError, 502),
    (StoreFullError, 507),
    (StoreError, 503),
    (OutputError, 507),
    (PalateError, 422),
)


class Problem(BaseModel):
    """Problem details of RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class ProblemResponse(Response):
    """Response of problem details, or on the OpenAI-compatible routes of an OpenAI error object."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self._detail = detail
        content = Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail)
        self._more = {"Cache-Control": "no-store", **(headers or {})}
        super().__init__(_ascii(content), status, self._more, MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        shown: Response = self
        if scope["path"].startswith(OPENAI):
            status = 400 if self.status_code == 422 else self.status_code  # as in OpenAI's API
            content = _ascii(openai_error(status, self._detail))
            shown = Response(content, status, self._more, "application/json")
        await Response.__call__(shown, scope, receive, send)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Create an error response, whose title is the phrase of its status."""
    return ProblemResponse(status, detail, headers)


def _ascii(content: BaseModel) -> str:
    return json.dumps(content.model_dump(), ensure_ascii=True)  # UTF-8 cannot encode lone surrogates


def problem_of(error: PalateError) -> Response:
    """Create the response to an error of palate."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    wait = getattr(error, "retry_after", RETRY_AFTER)
    headers = {"Retry-After": str(wait)} if status in (429, 503) else {}
    # the message of a store error names the database, which clients must not see
    away = isinstance(error, StoreError) and status == 503
    detail = "the user store is not available now; try again" if away else str(error)
    if status == 507:
        log.error("%s", error)
        detail = FULL
    return problem(status, detail, headers)


def install(app: FastAPI) -> None:
    """Register exception handlers that convert all errors to problem details."""

    @app.exception_handler(PalateError)
    def _of_palate(request: Request, error: PalateError) -> Response:
        return problem_of(error)

    @app.exception_handler(HTTPException)
    def _of_http(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if said == http.HTTPStatus(error.status_code).phrase:  # the router's default
            said = f"no {request.method} {ROUTE[error.status_code]}" if error.status_code in ROUTE else said
        return problem(error.status_code, said, error.headers)

    @app.exception_handler(RequestValidationError)
    def _of_validation(request: Request, error: RequestValidationError) -> Response:
        return problem(422, faults_of(error.errors()))

    @app.exception_handler(Exception)
    def _of_a_bug(request: Request, error: Exception) -> Response:
        return problem(500, "the server failed; its log says more")


def faults_of(found: Sequence[Any]) -> str:
    """Format validation errors as "place: expected …; place: …", without the sent values.

    Args:
        found: Pydantic's errors; the first :data:`SHOWN` are formatted, the others counted.
    """
    shown = [_worded(fault) for fault in found[:SHOWN]]
    rest = [f"and {len(found) - SHOWN:,} more faults"] if len(found) > SHOWN else []
    return "; ".join([*shown, *rest])


def _worded(fault: ErrorDetails) -> str:
    if fault["type"] in ("json_invalid", "json_type"):
        return f"not valid JSON: {fault.get('ctx', {}).get('error', 'expected text')}"
    place = ".".join(str(part) for part in fault["loc"] if part != "body") or "the body"
    hint = ", or see /docs for its name" if fault["type"] == "extra_forbidden" else ""
    return f"{place}: {fault_message(fault)}{hint}"
