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
    MOST_WORDS,
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
"""Events of a given history above which its encoding takes long."""
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\ufffd]+$"
PRINTABLE_OR_NONE = r"^[^\x00-\x1f\x7f-\x9f\ufffd]*$"
_IN_A_PATH = r"^[^/\\?#\x00-\x1f\x7f-\x9f\ufffd]+$"


def _no_step(user_id: str) -> str:
    if user_id in (".", ".."):
        raise ValueError("'.' and '..' mean steps in a path; expected another id")
    return user_id


def _written(as_type: Any) -> BeforeValidator:
    """Declare the JSON type of a field that :class:`EventFields` parses before validation."""
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
    Field(description="Names in a list, or in a text like 'Action|Comedy'"),
]
Timestamp: TypeAlias = Annotated[
    int | None,
    _written(Annotated[float, Field(ge=0, lt=UNITS[-1][0])] | str | None),
    Field(
        description="When: seconds, milli-, micro- or nanoseconds since 1970, distinguished by magnitude, or an ISO "
        "date or time, in UTC where it names no zone; kept in whole seconds",
        examples=[893286638, "2024-05-31T23:59:00Z"],
    ),
]
Rating: TypeAlias = Annotated[
    float | None,
    _written(float | str | None),
    Field(description="On the model's scale; 1 if not given, where the model's data has no ratings"),
]


EventType: TypeAlias = Annotated[
    Title | None,
    Field(
        description="In the place of a rating, where the model's data has types: like purchase, view or skip"
    ),
]
Dwell: TypeAlias = Annotated[
    float | None,
    _written(float | str | None),
    Field(description="Seconds that it lasted, where the model's data has dwell times"),
]


WrittenText: TypeAlias = Annotated[
    str | None,
    Field(
        max_length=MOST_WORDS,
        description="What the user wrote of it, a review or a note: read by models that were trained with event_texts",
    ),
]


class EventFields(Frozen):
    """Base class of events, whose fields are parsed like a history file's, see :mod:`palate.data.event_fields`."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, sent: Any) -> Any:
        return sent if isinstance(sent, cls) else read_fields(sent, cls.model_fields)


class SentItem(EventFields):
    """An item as text."""

    item_id: WrittenId
    title: Title = Field(description="May end with the year, as in 'Alien (1979)'")
    categories: Categories = ()
    description: Text | None = None

    def item(self) -> Item:
        """Convert to the input of the item encoder."""
        title, year = split_year(self.title)
        return Item(self.item_id, title, self.categories, self.description, year)


class SentEvent(EventFields):
    """A rating of a known item, or what was done with it."""

    item_id: WrittenId
    rating: Rating = None
    event_type: EventType = None
    dwell: Dwell = None
    text: WrittenText = None
    timestamp: Timestamp = None
    event_id: Annotated[Id, _written(Id | int)] | None = Field(
        None, description="What is sent again under the same id counts once"
    )

    def event(self, unrated: Unrated, place: str) -> Event:
        """Convert to a stored event; without a time, the current time is used.

        Args:
            unrated: What an event weighs without a rating, None where it needs one.
            place: Where the event stands, for the error.

        Raises:
            DataError: There is no rating, or a type without a weight.
        """
        try:
            rating = event_value(self.model_dump(exclude_none=True), unrated)
        except FieldError as error:
            raise DataError(f"{place}: {error}") from None
        return Event(self.item_id, rating, self.timestamp, self.event_id, self.text)


class GivenEvent(EventFields):
    """An event of a history that is not stored, with a known item or with a new one, given by title."""

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
    """An event with its user: one line of NDJSON."""

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
    """Selects events of a user, by their ids or by their items."""

    event_id: list[Id] = Field([], description="Ids of events")
    item_id: list[Id] = Field([], description="Items of which every rating is meant")

    @model_validator(mode="after")
    def _names_some(self) -> WhichEvents:
        if not self.event_id and not self.item_id:
            raise ValueError("neither event_id nor item_id; expected one of them, once or several times")
        return self


class WhichItems(Frozen):
    """Selects added items."""

    item_id: list[Id] = Field(min_length=1, description="Ids of items that were added")


class SentItems(Frozen):
    """Items to add."""

    items: list[SentItem] = Field(min_length=1, fail_fast=True)


class SentUser(Frozen):
    """A stored user, or someone with a given history."""

    user_id: UserId | None = None
    history: list[GivenEvent] | None = Field(
        None,
        fail_fast=True,
        description="Oldest first where there are no times; new items are known in it alone",
    )

    @model_validator(mode="after")
    def _one_user(self) -> SentUser:
        if (self.user_id is None) == (self.history is None):
            raise ValueError("expected either user_id or history")
        return self

    @property
    def names_new_items(self) -> bool:
        """Whether the history has items as text."""
        return any(event.title is not None for event in self.history or ())

    @property
    def slow(self) -> bool:
        """Whether it takes long to encode: the history has items as text, or is long."""
        return self.names_new_items or len(self.history or ()) > LONG


class SentQuestion(SentUser):
    """A question about a stored user or a given history."""

    instruction: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None, description="A question in free words; what the model was trained to answer, if not given"
    )
    item_ids: list[SentItemId] = Field(
        [],
        fail_fast=True,
        description="Items that the question asks about, beside those that it names; {item} in it stands for one",
    )
    categories: list[Title] = Field(
        [], max_length=100, description="Categories likewise; {category} stands for one"
    )
    k: int = Field(3, ge=1, description="Items that are recommended, or are to be avoided")


class SentExplanation(SentUser):
    """An item whose score is to be explained by a user's history."""

    item_id: SentItemId
    by: Literal["ratings", "next item"] = Field(
        "next item", description="The score: of what comes next, or the expected rating"
    )
    against: bool = Field(False, description="What lowers the score, in the place of what raises it")


class SentSwitch(Frozen):
    """Which of two models is to answer from now on."""

    serve: Literal["old", "new"]


class SentUsers(Frozen):
    """Users who are asked about together."""

    users: list[SentUser] = Field(min_length=1, fail_fast=True)


class SentWish(SentUsers):
    """What items of the catalogue to list for users."""

    k: int = Field(10, ge=1, description="Length of a list, which is shorter where fewer items are allowed")
    seen: bool = Field(False, description="Also items of the history")
    categories: list[Title] = Field([], description="Only items with one of these; all if empty")
    since: int | None = Field(None, description="Only items of this year or later")
    diversity: float = Field(
        0.0, ge=0, le=1, description="From 0, the best items, towards 1, items unlike each other"
    )


class SentCandidates(SentUsers):
    """Items that users are asked about: of the catalogue by their ids, and new ones as text."""

    item_ids: list[SentItemId] = Field([], fail_fast=True)
    items: list[SentItem] = Field(
        [], fail_fast=True, description="New items, which are known in this request alone"
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
    """Several questions, answered together."""

    questions: list[SentQuestion] = Field(min_length=1, fail_fast=True)
    stream: bool = Field(False, description="Send the answers while they are written, as server-sent events")


def given_history(
    events: Sequence[GivenEvent], unrated: Unrated, repeats: bool = False
) -> tuple[History, list[Item]]:
    """Create a history that is not stored, and its new items.

    Args:
        events: The events as they were sent.
        unrated: What an event weighs without a rating, None where it needs one.
        repeats: Whether each event of an item stands, as in a stored history, and not the last alone.

    Raises:
        DataError: Some events have a time and some have none, or one has no rating.
        ConflictError: Two new items have one id and other texts.
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
