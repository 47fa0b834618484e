"""Errors as RFC 9457 problem details: what was found, what was expected, and what to do."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from palate.errors import (
    ConflictError,
    OutputError,
    PalateError,
    StoreError,
    StoreFullError,
    UnknownUserError,
)
from palate.serve.batcher import OverloadedError

log = logging.getLogger("palate.serve")
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2
"""Seconds after which a store that is away is worth another try."""
ROUTE = {404: "here; /docs lists what there is", 405: "here; the header Allow lists what there is"}
FULL = (
    "the server's disk is full; nothing of this request was kept, and a deletion is complete when sent again"
)
_STATUS: tuple[tuple[type[PalateError], int], ...] = (
    (UnknownUserError, 404),
    (ConflictError, 409),
    (OverloadedError, 429),
    (StoreFullError, 507),
    (StoreError, 503),
    (OutputError, 507),
    (PalateError, 422),
)


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class TooMuchError(HTTPException):
    """A limit of the server is reached."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response that says what is wrong; the title is the status in words."""
    content = Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail)
    text = json.dumps(content.model_dump(), ensure_ascii=True)  # a lone surrogate has no UTF-8
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error leave the application as problem details."""

    @app.exception_handler(PalateError)
    def _of_palate(request: Request, error: PalateError) -> Response:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        wait = getattr(error, "retry_after", RETRY_AFTER)
        headers = {"Retry-After": str(wait)} if status in (429, 503) else {}
        # which store it is, is nobody's business
        detail = "the user store cannot be used now; try again" if status == 503 else str(error)
        if status == 507:
            log.error("%s", error)
            detail = FULL
        return problem(status, detail, headers)

    @app.exception_handler(HTTPException)
    def _of_http(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if said == http.HTTPStatus(error.status_code).phrase:  # as the router says it
            said = f"no {request.method} {ROUTE[error.status_code]}" if error.status_code in ROUTE else said
        return problem(error.status_code, said, error.headers)

    @app.exception_handler(RequestValidationError)
    def _of_validation(request: Request, error: RequestValidationError) -> Response:
        return problem(422, first_fault(error.errors()))

    @app.exception_handler(Exception)
    def _of_a_bug(request: Request, error: Exception) -> Response:
        return problem(500, "the server failed; its log says more")


def first_fault(faults: Any) -> str:
    """The first thing that is wrong, as "place: found …, expected …", without repeating much of what was sent."""
    fault: ErrorDetails = faults[0]
    place = ".".join(str(part) for part in fault["loc"] if part != "body") or "the body"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if fault["type"] in ("json_invalid", "json_type"):
        return f"not valid JSON: {fault.get('ctx', {}).get('error', 'expected text')}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown field; leave it out, or see /docs for its name{more}"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{place}: {message}{more}"
