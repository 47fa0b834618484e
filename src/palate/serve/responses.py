"""What the server answers with, as JSON: answers, histories, what became of events, and explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from palate.serve.store.store import StoredHistory


class GivenAnswer(BaseModel):
    """An answer; of a stored user with the version of the history that it was given for."""

    user_id: str | None
    version: int | None
    instruction: str
    text: str


class Answers(BaseModel):
    """The answers in the order of the questions, and the model that gave them."""

    answers: list[GivenAnswer]
    model: str


class AddedItems(BaseModel):
    """How many items were sent; they are known from now on."""

    items: int


class State(BaseModel):
    """That the server lives, or is ready."""

    status: str


class ModelFacts(BaseModel):
    """What the server answers with."""

    model: str
    card: str
    instruction: str
    reads: str
    ratings: list[float]
    unrated: float | None
    items: int
    limits: dict[str, Any]


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


class CategoryView(BaseModel):
    """One category: the chances that the user encoder sees, and what the rule reads off the history."""

    name: str
    liked: float | None = Field(description="Chance; null where the user encoder has no view of its own")
    disliked: float | None
    count: int | None = Field(
        description="Items of it in the history; null where the server lacks the dataset"
    )
    score: float | None = Field(
        description="Their mean rating, or without ratings a multiple of the usual share"
    )
    rule: Literal["liked", "disliked"] | None


class View(BaseModel):
    """A user's likes by category, of the most recent ``read`` events."""

    user_id: str | None
    version: int | None
    read: int
    like_above: float | None
    dislike_below: float | None
    categories: list[CategoryView]


class Influence(BaseModel):
    """An item of the history, and what the answer's log-probability loses without it."""

    item_id: str
    title: str | None
    rating: float
    influence: float


class Attributed(BaseModel):
    """An answer with its log-probability, and the items that it was read from, oldest first."""

    user_id: str | None
    version: int | None
    instruction: str
    text: str
    log_probability: float
    items: list[Influence]
    model: str
