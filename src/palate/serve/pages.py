"""Routes of the web page and the API documentation, which load no resources from other hosts."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

_STRICT = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _STRICT,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_PARTS = {
    "style.css": ("palate.report", "style.css"),
    "page.css": ("palate.serve", "page/page.css"),
    "page.js": ("palate.serve", "page/page.js"),
    "api.js": ("palate.serve", "page/api.js"),
    "pictures.js": ("palate.serve", "page/pictures.js"),
    "docs.js": ("palate.serve", "page/docs.js"),
    "swagger-ui.css": ("fastapi_offline", "static/swagger-ui.css"),
    "swagger-ui-bundle.js": ("fastapi_offline", "static/swagger-ui-bundle.js"),
}
pages = APIRouter(include_in_schema=False)


@pages.get("/")
def page() -> Response:
    """Serve the web page."""
    return _file("palate.serve", "page/index.html")


@pages.get("/docs")
def docs() -> Response:
    """Serve the API documentation."""
    return _file("palate.serve", "page/docs.html")


@pages.get("/page/{name}")
def page_part(name: str) -> Response:
    """Serve a script or style sheet of a page."""
    if name not in _PARTS:
        raise HTTPException(404, f"no file {name!r} of the page")
    return _file(*_PARTS[name])


def is_page(path: str) -> bool:
    """Return whether a path belongs to a page, which contains no user data and so needs no API key."""
    return path in ("/", "/docs") or path.startswith("/page/")


def _file(package: str, name: str) -> Response:
    content: Any = resources.files(package).joinpath(name).read_bytes()
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(content, headers=HEADERS, media_type=f"{kind}; charset=utf-8")
