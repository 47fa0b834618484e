"""Routes of the API, apart from the OpenAI-compatible ones; their docstrings are the OpenAPI descriptions."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from palate.serve import metrics
from palate.serve.engine import FEW
from palate.serve.gate import ASKER
from palate.serve.problems import MEDIA_TYPE
from palate.serve.requests import NDJSON, JsonRoute, events_by_user
from palate.serve.responses import (
    AddedItems,
    AllChoices,
    AllRatings,
    AllRecommendations,
    Answers,
    Attributed,
    DeletedEvents,
    DeletedItems,
    DeletedUser,
    DeletionLog,
    Explained,
    FirstLook,
    HistoryPage,
    KnownItem,
    KnownItemList,
    ModelFacts,
    NotedDeletion,
    State,
    Taken,
    TakenAll,
    Taste,
    UpgradeState,
    UserIds,
    View,
)
from palate.serve.schemas import (
    PRINTABLE_OR_NONE,
    Id,
    SentCandidates,
    SentEvents,
    SentExplanation,
    SentItems,
    SentQuestion,
    SentQuestions,
    SentSwitch,
    SentUser,
    SentWish,
    UserId,
    WhichEvents,
    WhichItems,
)
from palate.serve.service import Service, answer_all, answer_pieces
from palate.serve.store.changes import Appended, Event
from palate.serve.upgrade import Upgrade, no_upgrade
from palate.serve.waiting import committing, committing_here, while_awaited

log = logging.getLogger("palate.serve")
EVENTS_PATH = "/users/{user_id}/events"
"""Path of the most frequent request, see :mod:`palate.serve.direct`."""
SSE = "text/event-stream"
EVENT_SCHEMA = {
    "type": "object",
    "description": "Each server-sent event of the stream.",
    "properties": {"event": {"enum": ["piece", "answer", "error", "done"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}


async def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _upgrade(request: Request) -> Upgrade:
    found: Upgrade | None = request.app.state.upgrade
    if found is None:
        raise no_upgrade()
    return found


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "What is wrong", "content": content} for status in statuses}


async def _asker(request: Request) -> str | None:
    """Return the name of the request's API key; None on a server without keys."""
    return request.scope.get(ASKER)


Serving = Annotated[Service, Depends(_service)]
Asker = Annotated[str | None, Depends(_asker)]
SomeUser = Annotated[UserId, Path(description="The user's id, percent-encoded")]
watching = APIRouter(tags=["server"])
router = APIRouter(
    route_class=JsonRoute, responses=_problems(400, 401, 403, 408, 413, 421, 422, 429, 503, 507)
)


def _state(status: str, service: Service) -> State:
    """Create the response of the health checks, with the state of the engine if there is one."""
    engine = service.state
    return State(status=status) if engine is None else State(status=status, engine=engine)


@watching.get("/health", response_model_exclude_unset=True)
async def health(service: Serving) -> State:
    """Check that the process is alive; the engine is not contacted."""
    return _state("alive", service)


@watching.get("/ready", response_model_exclude_unset=True, responses=_problems(502, 503, 504, 507))
async def ready(service: Serving) -> State:
    """Check that the model is loaded and the store is available and not full.

    With an engine, also check that it is reachable and serves the run's weights.
    """
    await service.ready()
    return _state("ready", service)


@router.post(EVENTS_PATH, tags=["users"], responses=_problems(409))
async def add_events(user_id: SomeUser, sent: SentEvents, service: Serving) -> Taken:
    """Add one or several events in one transaction, which is durable when the response is sent."""
    unrated = service.users.catalogue.unrated

    def read() -> dict[str, list[Event]]:
        return {user_id: [one.event(unrated, str(at)) for at, one in enumerate(sent)]}

    return (await _taken(service, read() if len(sent) <= FEW else await run_in_threadpool(read)))[0]


@router.post(
    "/events",
    tags=["users"],
    responses=_problems(409, 415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {NDJSON: {"schema": {"type": "string", "description": "A UsersEvent a line"}}},
        }
    },
)
async def add_lines(request: Request, service: Serving) -> TakenAll:
    """Add events of several users, one per line of NDJSON, in one transaction."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != NDJSON:  # browsers send this type to another origin only after a CORS preflight
        raise HTTPException(415, f"the Content-Type is {kind or 'missing'!r}, expected {NDJSON}")
    body = await request.body()
    unrated = service.users.catalogue.unrated
    events = await run_in_threadpool(events_by_user, body, unrated, service.limits.events)
    return TakenAll(users=await _taken(service, events))


@router.get("/metrics", tags=["server"], response_class=Response)
def prometheus() -> Response:
    """Get metrics in Prometheus format."""
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/model", tags=["server"])
def model(service: Serving) -> ModelFacts:
    """Get the model card, its identity and the limits."""
    return service.facts()


@router.get("/upgrade", tags=["server"], responses=_problems(404))
def upgrade(request: Request) -> UpgradeState:
    """Get the progress of an upgrade from one model to another, and which of the two answers."""
    return _upgrade(request).state()


@router.post("/upgrade", tags=["server"], responses=_problems(404))
async def switch(sent: SentSwitch, request: Request) -> UpgradeState:
    """Switch all servers of the store to the old or the new model of an upgrade."""
    found = _upgrade(request)
    await committing_here()
    await run_in_threadpool(found.switch, sent.serve)
    request.app.state.service = found.service
    return await run_in_threadpool(found.state)


@router.get("/users", tags=["users"])
def user_ids(
    service: Serving,
    starting: Annotated[
        str, Query(max_length=200, pattern=PRINTABLE_OR_NONE, description="Prefix of the ids, case-sensitive")
    ] = "",
    most: Annotated[int, Query(ge=1, le=1_000, description="Maximum number of ids")] = 100,
) -> UserIds:
    """List user ids, sorted."""
    return UserIds(users=service.store.user_ids(starting, most))


@router.get("/users/{user_id}/history", tags=["users"], responses=_problems(404))
def history(
    user_id: SomeUser,
    service: Serving,
    newest: Annotated[
        int, Query(ge=1, le=100_000, description="Number of events, counted from the end")
    ] = 1_000,
    skip: Annotated[int, Query(ge=0, lt=2**40, description="Number of events at the end to leave out")] = 0,
) -> HistoryPage:
    """Get a page of a user's history, oldest first, with the last rating of each item."""
    found = service.store.history(user_id, newest, skip)
    return HistoryPage.of(found, service.items.items(found.history.item_ids))


@router.get(
    "/users/{user_id}/prompt",
    tags=["users"],
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **_problems(404)},
)
def user_prompt(user_id: SomeUser, service: Serving) -> Response:
    """Get the user prompt of all stored events as safetensors: ``user_prompt`` [M, E], for other engines."""
    kept, source = service.users.encoded(user_id)
    metrics.prompts.labels(source).inc()
    return Response(kept.prompt, media_type="application/octet-stream", headers={"ETag": f'"{kept.version}"'})


@router.delete("/users/{user_id}", tags=["users"])
def delete_user(user_id: SomeUser, service: Serving, asker: Asker) -> DeletedUser:
    """Delete a user's events and all derived data, also from the database's files and the runs' exports."""
    committing()
    return service.delete_user(user_id, asker)


@router.get(
    "/users/{user_id}/export",
    tags=["users"],
    response_class=StreamingResponse,
    responses={
        200: {"content": {NDJSON: {"schema": {"type": "string", "description": "One JSON object per line"}}}},
        **_problems(404),
    },
)
def export_user(user_id: SomeUser, service: Serving) -> StreamingResponse:
    """Export all that is stored about a user, one JSON object with a ``kind`` per line.

    The last line has the kind ``end`` and the number of the others. If it is missing, or the last line has the kind
    ``error``, the export is incomplete: repeat the request.
    """
    lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in service.export_user(user_id))
    headers = {"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="user.jsonl"'}
    return StreamingResponse(lines, media_type=NDJSON, headers=headers)


@router.get("/deletions", tags=["users"])
def deletions(
    service: Serving,
    user_id: Annotated[UserId | None, Query(description="Only deletions of this user")] = None,
    after: Annotated[int, Query(ge=0, lt=2**40, description="Only entries with a larger number")] = 0,
    most: Annotated[int, Query(ge=1, le=10_000, description="Maximum number of entries")] = 1_000,
) -> DeletionLog:
    """List the deletion log, oldest first: time, counts, API key and a digest of the user's id, never content."""
    found = service.store.deletions(after, most, user_id)
    return DeletionLog(deletions=[NotedDeletion(**asdict(one)) for one in found])


@router.delete("/users/{user_id}/events", tags=["users"], responses=_problems(404))
def delete_events(
    user_id: SomeUser, which: Annotated[WhichEvents, Query()], service: Serving, asker: Asker
) -> DeletedEvents:
    """Delete events of a user, also from the database's files; user prompts are recomputed without them.

    ``event_id`` deletes a single event, after which an earlier rating of the same item counts again; ``item_id``
    deletes all events of an item. Unknown ids are ignored.
    """
    service.limits.check_count("events", len(which.event_id) + len(which.item_id), service.limits.events)
    committing()
    deleted = service.store.delete_events(user_id, which.event_id, which.item_id, asker)
    return DeletedEvents(user_id=user_id, version=deleted.version, events=deleted.events)


@router.get("/items", tags=["items"])
def items(
    service: Serving,
    words: Annotated[
        str,
        Query(
            max_length=200,
            pattern=PRINTABLE_OR_NONE,
            description="Words of the title, year or categories",
        ),
    ] = "",
    item_id: Annotated[list[Id] | None, Query(description="Ids of items; unknown ones are ignored")] = None,
    most: Annotated[int, Query(ge=1, le=100, description="Maximum number of items found by words")] = 20,
) -> KnownItemList:
    """Find items of the catalogue by words of their titles, years and categories, or by their ids."""
    service.limits.check_count("item_id", len(item_id or ()), service.limits.events)
    found = [*service.items.find(words, most), *service.items.items(item_id or [])]
    return KnownItemList(items=[KnownItem.of(item) for item in found if item is not None])


@router.get("/example", tags=["users"])
def example(service: Serving) -> FirstLook:
    """Get an example user: a stored one, or if there is none a made-up history of items of the catalogue."""
    return service.example()


@router.post("/items", tags=["items"], responses=_problems(404, 409))
async def add_items(sent: SentItems, service: Serving) -> AddedItems:
    """Add items to the catalogue; they are encoded before the response."""
    service.limits.check_count("items", len(sent.items), service.limits.new_items)
    items = [item.item() for item in sent.items]
    await service.encoding(lambda: service.users.add_items(items), slow=True)
    return AddedItems(items=len(sent.items))


@router.delete("/items", tags=["items"])
def delete_items(which: Annotated[WhichItems, Query()], service: Serving, asker: Asker) -> DeletedItems:
    """Delete added items and all users' events about them, also from the database's files.

    Items of the training data cannot be deleted. Unknown ids are ignored.
    """
    service.limits.check_count("item_id", len(which.item_id), service.limits.events)
    deleted = service.users.delete_items(which.item_id, asker)
    return DeletedItems(items=deleted.items, events=deleted.events)


@router.post(
    "/answers",
    tags=["answers"],
    response_model=Answers,
    responses={200: {"content": {SSE: {"schema": EVENT_SCHEMA}}}, **_problems(404, 409, 502, 504)},
)
async def answers(sent: SentQuestions, service: Serving) -> Any:
    """Answer free-text questions about stored users or given histories.

    Each question is matched to a kind, which the answer names; one that matches no kind gets status 422.
    """
    prepared = await service.answering_or_prepared(sent.questions)
    if service.log_content:
        log.info("asked %r", [(one.user_id, one.instruction or "") for one in sent.questions])
    if sent.stream:
        events = answer_pieces(service.batcher, prepared, service.identity)
        return StreamingResponse(events, media_type=SSE, headers={"Cache-Control": "no-store"})
    given = await answer_all(service.batcher, prepared)
    return Answers(answers=given, model=service.identity)


@router.post("/explanations", tags=["answers"], responses=_problems(404, 409))
async def explanations(sent: SentExplanation, service: Serving) -> Explained:
    """Explain the score of an item by the items and categories of the history whose removal changes it most."""
    return await service.answering.take(partial(service.answering.explain, sent))


@router.post("/views", tags=["answers"], responses=_problems(404, 409))
async def views(sent: SentQuestion, service: Serving) -> View:
    """Get a user's likes by category, from the user encoder and the label rule; the instruction is ignored."""
    return await service.encoding(lambda: service.explainer.view(sent), sent.slow)


@router.post("/tastes", tags=["answers"], responses=_problems(404, 409))
async def tastes(sent: SentUser, request: Request, service: Serving) -> Taste:
    """Get a user's taste by category, with 90% intervals and its course over the history."""
    return await while_awaited(request, service.slow, partial(service.tasting.taste, sent))


@router.post("/attributions", tags=["answers"], responses=_problems(404, 409))
async def attributions(sent: SentQuestion, request: Request, service: Serving) -> Attributed:
    """Get an answer and, for each item of the history, the decrease of the answer's log-probability without it."""
    return await while_awaited(request, service.slow, partial(service.explainer.attribute, sent))


@router.post("/recommendations", tags=["recommendations"], responses=_problems(404, 409))
async def recommendations(sent: SentWish, service: Serving) -> AllRecommendations:
    """Recommend items of the catalogue to stored users or for given histories."""
    return await service.recommending.recommend(sent)


@router.post("/ratings", tags=["recommendations"], responses=_problems(404, 409))
async def ratings(sent: SentCandidates, service: Serving) -> AllRatings:
    """Predict how users would rate items of the catalogue, by id, and new ones, as text.

    Responds with a problem if the recommender's data has no ratings.
    """
    return await service.recommending.rate(sent)


@router.post("/choices", tags=["recommendations"], responses=_problems(404, 409))
async def choices(sent: SentCandidates, service: Serving) -> AllChoices:
    """Predict which of several items users would choose, with the probability of each; new items as text."""
    return await service.recommending.choose(sent)


async def _taken(service: Service, sent: dict[str, list[Event]]) -> list[Taken]:
    service.limits.check_count("events", sum(map(len, sent.values())), service.limits.events)
    taken: dict[str, Appended] = await service.users.append(sent)
    for one in taken.values():
        metrics.counted_events("new").inc(one.new)
        metrics.counted_events("known").inc(one.known)
    return [
        Taken(user_id=user_id, version=one.version, new=one.new, known=one.known)
        for user_id, one in taken.items()
    ]
