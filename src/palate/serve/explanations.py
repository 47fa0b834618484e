"""What travels when an answer is explained: the view of a user's likes, and what an answer rests on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


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
