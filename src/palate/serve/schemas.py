"""Request schemas: events, items and questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from palate.data.event_fields import (
    MAX_TEXT_LENGTH,
    UNITS,
    FieldError,
    check_names_an_item,
    read_fields,
    read_item_id,
)
from palate.data.event_types import Unrated
from palate.data.given_history import ReadEvent, event_value, history_of, new_items, read_event
from palate.data.movielens.item_files import split_year
from palate.errors import ConflictError, DataError
from palate.schema import History, Item
from palate.serve.store.changes import Event
from palate.system.records import Frozen

LONG = 1_000
"""Number of events above which encoding a given history counts as slow."""
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\ufffd]+$"
PRINTABLE_OR_NONE = r"^[^\x00-\x1f\x7f-\x9f\ufffd]*$"
_IN_A_PATH = r"^[^/\\?#\x00-\x1f\x7f-\x9f\ufffd]+$"


def _no_step(user_id: str) -> str:
    if user_id in (".", ".."):
        raise ValueError("'.' and '..' have a meaning in URL paths; expected another id")
    return user_id


def _written(as_type: Any) -> BeforeValidator:
    """Declare, for OpenAPI, the JSON type of a field that :class:`EventFields` parses before validation."""
    return BeforeValidator(lambda found: found, json_schema_input_type=as_type)


Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
UserId: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=_IN_A_PATH), AfterValidator(_no_step)
]
WrittenId: TypeAlias = Annotated[Id, _written(Id | int)]
SentItemId: TypeAlias = Annotated[Id, BeforeValidator(read_item_id, json_schema_input_type=Id | int)]
Title: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True)]
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Categories: TypeAlias = Annotated[
    Annotated[tuple[Title, ...], Field(max_length=100)],
    _written(Annotated[list[Title], Field(max_length=100)] | str | None),
    Field(description="Names as a list, or as a text like 'Action|Comedy'"),
]
Timestamp: TypeAlias = Annotated[
    int | None,
    _written(Annotated[float, Field(ge=0, lt=UNITS[-1][0])] | str | None),
    Field(
        description="Time as seconds, milli-, micro- or nanoseconds since 1970, distinguished by magnitude, or as an "
        "ISO date or time, in UTC without a time zone; stored in whole seconds",
        examples=[893286638, "2024-05-31T23:59:00Z"],
    ),
]
Rating: TypeAlias = Annotated[
    float | None,
    _written(float | str | None),
    Field(description="Rating on the model's scale; defaults to 1 for models of data without ratings"),
]


EventType: TypeAlias = Annotated[
    Title | None,
    Field(
        description="Type such as purchase, view or skip, instead of a rating, for models of data with event types"
    ),
]
Dwell: TypeAlias = Annotated[
    float | None,
    _written(float | str | None),
    Field(description="Dwell time in seconds, for models of data with dwell times"),
]


WrittenText: TypeAlias = Annotated[
    str | None,
    Field(
        max_length=MAX_TEXT_LENGTH,
        description="The user's review or note, read by models that were trained with event_texts",
    ),
]


class EventFields(Frozen):
    """Base class of events, whose fields are parsed like a history file's, see :mod:`palate.data.event_fields`."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, sent: Any) -> Any:
        return sent if isinstance(sent, cls) else read_fields(sent, cls.model_fields)


class SentItem(EventFields):
    """An item described by text."""

    item_id: WrittenId
    title: Title = Field(description="May end with the year, as in 'Alien (1979)'")
    categories: Categories = ()
    description: Text | None = None

    def item(self) -> Item:
        """Convert to the input of the item encoder."""
        title, year = split_year(self.title)
        return Item(self.item_id, title, self.categories, self.description, year)


class SentEvent(EventFields):
    """An event of a user with an item of the catalogue: a rating, or an interaction of a type."""

    item_id: WrittenId
    rating: Rating = None
    event_type: EventType = None
    dwell: Dwell = None
    text: WrittenText = None
    timestamp: Timestamp = None
    event_id: Annotated[Id, _written(Id | int)] | None = Field(
        None, description="Idempotency key: an event that is sent again with the same id is ignored"
    )

    def event(self, unrated: Unrated, place: str) -> Event:
        """Convert to a stored event; without a time, the current time is used.

        Args:
            unrated: Value of an event without a rating, or weights of event types; None if a rating is required.
            place: Position of the event in the request, for error messages.

        Raises:
            DataError: The event has no rating although one is required, or a type without a weight.
        """
        try:
            rating = event_value(self.model_dump(exclude_none=True), unrated)
        except FieldError as error:
            raise DataError(f"{place}: {error}") from None
        return Event(self.item_id, rating, self.timestamp, self.event_id, self.text)


class GivenEvent(EventFields):
    """An event of a given history, with an item of the catalogue, by id, or a new one, by title."""

    item_id: WrittenId | None = None
    title: Title | None = None
    categories: Categories = ()
    description: Text | None = None
    rating: Rating = None
    event_type: EventType = None
    dwell: Dwell = None
    text: WrittenText = None
    timestamp: Timestamp = None

    @model_validator(mode="after")
    def _names_an_item(self) -> GivenEvent:
        check_names_an_item(self.model_dump(exclude_none=True))
        return self


class UsersEvent(SentEvent):
    """An event with its user, as one line of NDJSON."""

    user_id: Annotated[UserId, _written(UserId | int)]


SentEvents: TypeAlias = Annotated[
    list[SentEvent],
    Field(min_length=1, fail_fast=True),
    BeforeValidator(
        lambda sent: [sent] if isinstance(sent, dict) else sent,
        json_schema_input_type=SentEvent | Annotated[list[SentEvent], Field(min_length=1)],
    ),
]


class WhichEvents(Frozen):
    """Selection of a user's events by their ids or by their items."""

    event_id: list[Id] = Field([], description="Ids of events")
    item_id: list[Id] = Field([], description="Ids of items, all of whose events are selected")

    @model_validator(mode="after")
    def _names_some(self) -> WhichEvents:
        if not self.event_id and not self.item_id:
            raise ValueError("neither event_id nor item_id; expected at least one of them")
        return self


class WhichItems(Frozen):
    """Selection of added items."""

    item_id: list[Id] = Field(min_length=1, description="Ids of items that were added")


class SentItems(Frozen):
    """Items to add."""

    items: list[SentItem] = Field(min_length=1, fail_fast=True)


class SentUser(Frozen):
    """A stored user, or a given history that is not stored."""

    user_id: UserId | None = None
    history: list[GivenEvent] | None = Field(
        None,
        fail_fast=True,
        description="Events, oldest first if they have no times; new items are known only in this history",
    )

    @model_validator(mode="after")
    def _one_user(self) -> SentUser:
        if (self.user_id is None) == (self.history is None):
            raise ValueError("expected either user_id or history")
        return self

    @property
    def names_new_items(self) -> bool:
        """Whether the history has new items, given by title."""
        return any(event.title is not None for event in self.history or ())

    @property
    def slow(self) -> bool:
        """Whether encoding is slow: the history has new items, or more than :data:`LONG` events."""
        return self.names_new_items or len(self.history or ()) > LONG


class SentQuestion(SentUser):
    """A question about a stored user or a given history."""

    instruction: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None, description="A free-text question; defaults to the instruction that the model was trained with"
    )
    item_ids: list[SentItemId] = Field(
        [],
        fail_fast=True,
        description="Items of the question, in addition to those that its text names; {item} is a placeholder",
    )
    categories: list[Title] = Field(
        [], max_length=100, description="Categories of the question, likewise; {category} is a placeholder"
    )
    k: int = Field(3, ge=1, description="Number of items to recommend, or to advise against")


class SentExplanation(SentUser):
    """A request to explain an item's score by a user's history."""

    item_id: SentItemId
    by: Literal["ratings", "next item"] = Field(
        "next item", description="The score: that of the next item, or the expected rating"
    )
    against: bool = Field(
        False, description="Whether to list what lowers the score instead of what raises it"
    )


class SentSwitch(Frozen):
    """The model of an upgrade that should answer from now on."""

    serve: Literal["old", "new"]


class SentUsers(Frozen):
    """Users of a batch request."""

    users: list[SentUser] = Field(min_length=1, fail_fast=True)


class SentWish(SentUsers):
    """A request for recommendations."""

    k: int = Field(10, ge=1, description="Number of items per user, or fewer if fewer are allowed")
    seen: bool = Field(False, description="Whether items of the history may be recommended")
    categories: list[Title] = Field([], description="Only items with one of these categories; all if empty")
    since: int | None = Field(None, description="Only items of this year or later")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0 for the best items, up to 1 for items that differ from each other most",
    )


class SentCandidates(SentUsers):
    """Candidate items for ratings or a choice: items of the catalogue, by id, and new ones, as text."""

    item_ids: list[SentItemId] = Field([], fail_fast=True)
    items: list[SentItem] = Field(
        [], fail_fast=True, description="New items, which are known only in this request"
    )

    @model_validator(mode="after")
    def _names_items(self) -> SentCandidates:
        if not self.item_ids and not self.items:
            raise ValueError("neither item_ids nor items; expected at least one item")
        return self

    @property
    def all_ids(self) -> list[str]:
        """Ids of the catalogue's items, then of the new ones."""
        return [*self.item_ids, *(item.item_id for item in self.items)]


class SentQuestions(Frozen):
    """A batch of questions."""

    questions: list[SentQuestion] = Field(min_length=1, fail_fast=True)
    stream: bool = Field(False, description="Whether to stream the answers as server-sent events")


def given_history(
    events: Sequence[GivenEvent], unrated: Unrated, repeats: bool = False
) -> tuple[History, list[Item]]:
    """Create a history that is not stored, and its new items.

    Args:
        events: The events of the request.
        unrated: Value of an event without a rating, or weights of event types; None if a rating is required.
        repeats: Whether to keep all events of an item instead of the last one only, as in stored histories.

    Raises:
        DataError: Only some of the events have a time, or one lacks a required rating.
        ConflictError: Two new items have the same id and different texts.
    """
    read = [_given(index, event, unrated) for index, event in enumerate(events)]
    history = history_of("", read, lambda index, said: DataError(f"history.{index}: {said}"))
    items = new_items(read, lambda index, said: ConflictError(f"history.{index}: {said}"))
    return history.latest(repeats=repeats), items


def _given(index: int, event: GivenEvent, unrated: Unrated) -> ReadEvent:
    try:
        return read_event(event.model_dump(exclude_none=True), unrated)
    except FieldError as error:
        raise DataError(f"history.{index}: {error}") from None
