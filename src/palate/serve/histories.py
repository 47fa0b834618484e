"""What the server says of users: their ids, their histories, and what became of events."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from palate.serve.store.store import StoredHistory


class UserIds(BaseModel):
    """Users of the store, by id."""

    users: list[str]


class Taken(BaseModel):
    """What became of a user's events: how many are new, and how many were there under their ids."""

    user_id: str
    version: int
    new: int
    known: int


class TakenAll(BaseModel):
    """What became of many users' events."""

    users: list[Taken]


class HistoryEvent(BaseModel):
    """An event of a stored history; the title where the server knows it."""

    event_id: str
    item_id: str
    rating: float
    timestamp: int
    title: str | None = None


class HistoryPage(BaseModel):
    """A part of a user's history, oldest first."""

    user_id: str
    version: int
    events: list[HistoryEvent]

    @classmethod
    def of(cls, found: StoredHistory, titles: Sequence[str | None]) -> HistoryPage:
        """The page of what the store found."""
        history = found.history
        columns = zip(
            found.event_ids, history.item_ids, history.ratings, history.timestamps, titles, strict=True
        )
        names = HistoryEvent.model_fields
        events = [HistoryEvent(**dict(zip(names, row, strict=True))) for row in columns]
        return cls(user_id=history.user_id, version=found.version, events=events)


class Deleted(BaseModel):
    """How many events of a user were removed, with all that was made of them."""

    user_id: str
    events: int


class DeletedEvents(Deleted):
    """The same of some of them, and the version of what is left."""

    version: int
