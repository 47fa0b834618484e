"""Export of all that the store holds about a user, as JSON objects."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Row, select

from palate.errors import UnknownUserError
from palate.serve.store.deletions import read_deletions
from palate.serve.store.store import UserStore, find_user
from palate.serve.store.tables import encoded, events, users

PAGE = 2_000
"""Number of events per query."""


def personal_data(
    store: UserStore, user_id: str, titles: Callable[[Sequence[str]], Sequence[str | None]]
) -> Iterator[dict[str, Any]]:
    """Yield all that is stored about a user: the user, all events in order of arrival, encodings, logged deletions.

    Data is read in pages, so that a slow reader holds no transaction open. Events added meanwhile are left out. If
    events are deleted meanwhile, the last line has the kind ``error``, as the lines before may hold deleted data.

    Args:
        store: The store.
        user_id: The user.
        titles: Looks up titles of items, None for unknown ones.

    Returns:
        The lines, each with its ``kind``. The bytes of encodings are in base64.

    Raises:
        UnknownUserError: The user is not stored; raised at the call, before the first line.
    """
    with store.database.reading() as connection:
        user = find_user(connection, users.c.user_id == user_id, user_id)
    return _lines(store, user, titles)


def _lines(
    store: UserStore, user: Row[Any], titles: Callable[[Sequence[str]], Sequence[str | None]]
) -> Iterator[dict[str, Any]]:
    yield {"kind": "user", "user_id": user.user_id, "version": user.version}
    after = 0
    while rows := _page(store, user, after):
        for row, title in zip(rows, titles([row.item_id for row in rows]), strict=True):
            yield {
                "kind": "event",
                "version": row.version,
                "event_id": row.event_id,
                "item_id": row.item_id,
                "title": title,
                "rating": row.rating,
                "timestamp": row.timestamp,
                "superseded": row.superseded is not None and row.superseded <= user.version,
                "text": row.text,
            }
        after = rows[-1].version
    yield from _encodings(store, user)
    with store.database.reading() as connection:
        logged = read_deletions(connection, 0, 1_000_000, user.user_id)
    for one in logged:
        yield {"kind": "deletion", "deleted_at": one.deleted_at, "what": one.kind, "events": one.events}
    with store.database.reading() as connection:
        try:
            now = find_user(connection, users.c.key == user.key, user.user_id)
        except UnknownUserError:
            now = None
    if now is None or now.forgotten > user.version:
        yield {"kind": "error", "detail": "events were deleted during the export; repeat it"}


def _page(store: UserStore, user: Row[Any], after: int) -> Sequence[Row[Any]]:
    found = select(events).where(
        events.c.user_key == user.key, events.c.version > after, events.c.version <= user.version
    )
    with store.database.reading() as connection:
        return connection.execute(found.order_by(events.c.version).limit(PAGE)).all()


def _encodings(store: UserStore, user: Row[Any]) -> Iterator[dict[str, Any]]:
    """Yield the encodings, one query each, as they may be large."""
    of_user = encoded.c.user_key == user.key
    with store.database.reading() as connection:
        models = (
            connection.execute(select(encoded.c.model).where(of_user).order_by(encoded.c.model))
            .scalars()
            .all()
        )
    for model in models:
        with store.database.reading() as connection:
            row = connection.execute(select(encoded).where(of_user, encoded.c.model == model)).one_or_none()
        if row is not None:  # else deleted meanwhile, which the last line reports
            yield {
                "kind": "encoding",
                "model": model,
                "version": row.version,
                "prompt": b64encode(row.prompt).decode(),
                "state": None if row.state is None else b64encode(row.state).decode(),
            }
