"""The ASGI application of one worker: routes, error handlers and middleware."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from palate.serve import problems
from palate.serve.connections import limit_lines, tell_if_unbounded
from palate.serve.direct import DirectEvents
from palate.serve.gate import Gate
from palate.serve.keys import Keys
from palate.serve.log import show_log
from palate.serve.openai_routes import openai_routes
from palate.serve.pages import pages
from palate.serve.problems import OPENAI, Problem
from palate.serve.routes import router, watching
from palate.serve.service import Service
from palate.serve.settings import ServeSettings
from palate.serve.upgrade import Upgrade

ABOUT = """Answers questions about users from their histories of ratings, which a language model reads as soft prompts.
Errors are problem details (RFC 9457), below `/v1` OpenAI's error objects. With API keys, every route except `/health`,
`/ready` and the pages requires `Authorization: Bearer KEY`."""


SWITCHING = 0.0005
"""Thread switch interval in seconds, shorter than Python's, as a request needs the event loop many times."""


def create_app(settings: ServeSettings, alone: bool = False) -> Gate:
    """Create the ASGI application of one worker, which loads the model on startup.

    Args:
        settings: Settings of the server.
        alone: Whether the process runs nothing else. Objects that exist after startup are then excluded from garbage
            collection, as they live until the process ends.

    Returns:
        The application.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await run_in_threadpool(Service, settings)
        services, upgrade = [service], None
        if settings.previous is not None:
            old = await run_in_threadpool(Service, settings.of_previous, service)
            services.append(old)
            upgrade = Upgrade(service, old, settings)
        app.state.upgrade = upgrade
        app.state.service = service if upgrade is None else upgrade.service
        following = [asyncio.create_task(one.follow()) for one in services]
        following.append(asyncio.create_task(service.delete_aged()))
        if upgrade is not None:  # a request keeps the service, and so the model, that it started with
            following.append(asyncio.create_task(upgrade.run(partial(setattr, app.state, "service"))))
        if alone:
            gc.collect()
            gc.freeze()  # a full collection over a model's objects would pause all requests for 0.2 s or more
        yield
        for task in following:
            task.cancel()
        await run_in_threadpool(service.close if upgrade is None else upgrade.close)

    app = FastAPI(
        title="palate",
        version=version("palate"),
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(DirectEvents)
    app.include_router(watching)
    app.include_router(router)
    app.include_router(openai_routes)
    app.include_router(pages)
    _describe(app, keys=settings.key_file is not None)
    keys = None if settings.key_file is None else Keys(settings.key_file)
    return Gate(app, settings.limits, keys, settings.log_content)


def worker_app() -> Gate:
    """Create the application of a worker process from the settings in its environment."""
    settings = ServeSettings.from_environment()
    if settings.workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // settings.workers))
    sys.setswitchinterval(SWITCHING)
    show_log()
    limit_lines()
    tell_if_unbounded()
    return create_app(settings, alone=True)


def _describe(app: FastAPI, keys: bool) -> None:
    """Add the error schema and, with ``keys``, API keys to the OpenAPI document."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for path, operations in document["paths"].items():
            for operation in operations.values() if path.startswith(OPENAI) else ():
                operation["responses"].pop("422", None)  # these routes respond 400 to an invalid body
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        if keys:
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
