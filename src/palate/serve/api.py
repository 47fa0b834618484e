"""What travels between a client and the server, as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from palate.data.item_files import split_year
from palate.errors import ConflictError, DataError
from palate.schema import History, Item
from palate.serve.appending import Event

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\ufffd]+$"
_IN_A_PATH = r"^[^/\\?#\x00-\x1f\x7f-\x9f\ufffd]+$"


def _no_step(user_id: str) -> str:
    if user_id in (".", ".."):
        raise ValueError("'.' and '..' mean steps in a path; expected another id")
    return user_id


Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
UserId: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=_IN_A_PATH), AfterValidator(_no_step)
]
Title: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True)]
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Timestamp: TypeAlias = Annotated[int, Field(strict=True, ge=0, lt=2**40)]
Rating: TypeAlias = Annotated[
    Annotated[float, Field(strict=True, allow_inf_nan=False)] | None,
    Field(description="On the model's scale; 1 if not given, where the model's data has no ratings"),
]


class Strict(BaseModel):
    """No unknown fields, so that a misspelled one is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SentItem(Strict):
    """An item by its texts."""

    item_id: Id
    title: Title = Field(description="May end with the year, as in 'Alien (1979)'")
    categories: tuple[Title, ...] = Field((), max_length=100)
    description: Text | None = None

    def item(self) -> Item:
        """The item as the item encoder reads it."""
        return _item(self.item_id, self.title, self.categories, self.description)


class SentEvent(Strict):
    """A rating of a known item."""

    item_id: Id
    rating: Rating = None
    timestamp: Timestamp | None = Field(None, description="When, in seconds since 1970; now if not given")
    event_id: Id | None = Field(None, description="What is sent again under the same id counts once")

    def event(self, unrated: float | None, place: str) -> Event:
        """The event as the store keeps it; raises :class:`DataError` as :func:`rated` does."""
        return Event(self.item_id, rated(self.rating, unrated, place), self.timestamp, self.event_id)


class GivenEvent(Strict):
    """A rating in a history that is not stored: of a known item, or of a new one that is given by its title."""

    item_id: Id | None = None
    title: Title | None = None
    categories: tuple[Title, ...] = Field((), max_length=100)
    description: Text | None = None
    rating: Rating = None
    timestamp: Timestamp | None = None

    @model_validator(mode="after")
    def _names_an_item(self) -> GivenEvent:
        if self.item_id is None and self.title is None:
            raise ValueError("neither item_id nor title; expected one of them")
        if self.title is None and (self.categories or self.description):
            raise ValueError("categories or description without a title; a new item needs one")
        return self

    @property
    def names(self) -> str:
        """The item's id, which a new item may go without."""
        return self.item_id or f"new: {self.title}"

    def item(self) -> Item | None:
        """The new item that it brings."""
        if self.title is None:
            return None
        return _item(self.names, self.title, self.categories, self.description)


class UsersEvent(SentEvent):
    """An event that says whose it is: a line of NDJSON."""

    user_id: UserId


SentEvents: TypeAlias = Annotated[
    list[SentEvent],
    Field(min_length=1),
    BeforeValidator(
        lambda sent: [sent] if isinstance(sent, dict) else sent,
        json_schema_input_type=SentEvent | Annotated[list[SentEvent], Field(min_length=1)],
    ),
]


class WhichEvents(Strict):
    """Events of a user, by their ids or by their items."""

    event_id: list[Id] = Field([], description="Ids of events")
    item_id: list[Id] = Field([], description="Items of which every rating is meant")

    @model_validator(mode="after")
    def _names_some(self) -> WhichEvents:
        if not self.event_id and not self.item_id:
            raise ValueError("neither event_id nor item_id; expected one of them, once or several times")
        return self


class SentItems(Strict):
    """Items to add."""

    items: list[SentItem] = Field(min_length=1)


class SentQuestion(Strict):
    """Who is asked about, a stored user or a given history, and what."""

    user_id: UserId | None = None
    history: list[GivenEvent] | None = Field(
        None, description="Oldest first where there are no times; new items are known in it alone"
    )
    instruction: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None, description="What the model was trained to answer, if not given"
    )

    @model_validator(mode="after")
    def _one_user(self) -> SentQuestion:
        if (self.user_id is None) == (self.history is None):
            raise ValueError("expected either user_id or history")
        return self


class SentQuestions(Strict):
    """Several questions, which are answered together."""

    questions: list[SentQuestion] = Field(min_length=1)
    stream: bool = Field(False, description="Send the answers while they are written, as server-sent events")


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


def new_items(events: Iterable[GivenEvent]) -> list[Item]:
    """The items that these events bring; raises :class:`ConflictError` for one id with different texts."""
    items: dict[str, Item] = {}
    for event in events:
        item = event.item()
        if item is not None and items.setdefault(item.item_id, item) != item:
            raise ConflictError(f"item {item.item_id!r} is given twice with other texts; give it its own id")
    return list(items.values())


def rated(rating: float | None, unrated: float | None, place: str) -> float:
    """A rating as it was sent, or what an event counts without one.

    Raises :class:`DataError`, which begins with the place, without either.
    """
    found = unrated if rating is None else rating
    if found is None:
        raise DataError(f"{place}rating: missing; expected one that is on the model's scale")
    return found


def given_history(events: Sequence[GivenEvent], unrated: float | None) -> History:
    """A history that is not stored.

    Raises :class:`DataError` when some events have a time and some have none, and as :func:`rated` does.
    """
    times = [event.timestamp for event in events]
    if None in times and any(time is not None for time in times):
        raise DataError("some events have a timestamp and some have none; give it to all or to none")
    timed = sorted(enumerate(events), key=lambda pair: (pair[1].timestamp or 0, pair[0]))
    # as in a stored history, the last rating of an item stands alone
    last = {event.names: (order, event) for order, event in timed}
    kept = sorted(last.values(), key=lambda pair: (pair[1].timestamp or 0, pair[0]))
    return History(
        "",
        item_ids=[event.names for _, event in kept],
        ratings=[rated(event.rating, unrated, f"history.{order}.") for order, event in kept],
        timestamps=[order if event.timestamp is None else event.timestamp for order, event in kept],
    )


def _item(item_id: str, written: str, categories: Sequence[str], description: str | None) -> Item:
    title, year = split_year(written)
    return Item(item_id, title, tuple(dict.fromkeys(categories)), description, year)
