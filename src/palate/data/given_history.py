"""Histories from parsed events of files and requests, sorted by time, and their new items."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate.data.event_fields import FieldError, check_names_an_item, read_fields, read_rating
from palate.data.event_types import EventTypes, Unrated
from palate.data.json_text import read_json
from palate.data.movielens.item_files import split_year
from palate.errors import PalateError
from palate.schema import History, Item

_TEXTS = ("title", "categories", "description")


@dataclass(frozen=True)
class ReadEvent:
    """An interaction with an item of the catalogue, or with a new item."""

    item_id: str
    item: Item | None  # a new item, if the event has a title
    rating: float
    timestamp: int | None
    text: str = ""
    """Text that the user wrote, such as a review."""


def read_event(fields: Mapping[str, Any], unrated: Unrated) -> ReadEvent:
    """Create an event from parsed fields.

    Args:
        fields: The result of :func:`palate.data.event_fields.read_fields`.
        unrated: Weight of an event without a rating; None if a rating is required.

    Returns:
        The event.

    Raises:
        FieldError: The item or the rating is missing, or the event's type has no weight.
    """
    check_names_an_item(fields)
    item = _item(fields) if "title" in fields else None
    item_id = fields["item_id"] if item is None else item.item_id
    return ReadEvent(
        item_id, item, event_value(fields, unrated), fields.get("timestamp"), fields.get("text", "")
    )


def event_value(fields: Mapping[str, Any], unrated: Unrated) -> float:
    """Return an event's rating, or its weight if it has none; arguments and errors as :func:`read_event`."""
    typed = next((name for name in ("event_type", "dwell") if name in fields), None)
    if "rating" in fields:
        if typed:
            raise FieldError(f"both rating and {typed}; give one of them")
        return read_rating(fields["rating"])
    if isinstance(unrated, EventTypes):
        return unrated.value(fields.get("event_type"), fields.get("dwell"))
    if typed:
        raise FieldError(f"{typed} is given, but the data has no event types; give a rating, or neither")
    return read_rating(unrated)


def history_of(
    user_id: str, events: Sequence[ReadEvent], wrong: Callable[[int, str], PalateError]
) -> History:
    """Create a history from events, sorted by time; without times, their order is kept.

    Args:
        user_id: The user.
        events: The events, in file order.
        wrong: Creates the error for an event without a time among events with times, from its index and a message.

    Returns:
        The history.
    """
    timed = any(event.timestamp is not None for event in events)
    for index, event in enumerate(events):
        if timed and event.timestamp is None:
            raise wrong(index, "no timestamp, but other events have one; give one to all events or to none")
    ordered = sorted(enumerate(events), key=lambda pair: pair[1].timestamp or 0)
    return History(
        user_id=user_id,
        item_ids=[event.item_id for _, event in ordered],
        ratings=[event.rating for _, event in ordered],
        timestamps=[index if event.timestamp is None else event.timestamp for index, event in ordered],
        texts=[event.text for _, event in ordered] if any(event.text for event in events) else (),
    )


def new_items(events: Sequence[ReadEvent], wrong: Callable[[int, str], PalateError]) -> list[Item]:
    """List the new items of the events.

    Args:
        events: The events, in file order.
        wrong: Creates the error for an item that an earlier event has with other texts, from its index and a message.

    Returns:
        The distinct new items.
    """
    items: dict[str, Item] = {}
    for index, event in enumerate(events):
        if event.item and items.setdefault(event.item_id, event.item) != event.item:
            raise wrong(index, f"item {event.item_id!r} occurs earlier with other texts; give it another id")
    return list(items.values())


def described_item(text: str) -> Item:
    """Parse a new item from text.

    Args:
        text: ``TITLE | CATEGORY, CATEGORY | DESCRIPTION``, of which only the title is required; or, for names that
            contain ``|`` or commas, a JSON object with ``title``, ``categories``, ``description`` and ``item_id``.

    Returns:
        The item; without ``item_id`` its id is made from the title.

    Raises:
        FieldError: The text starts with ``{`` but is not JSON, has no title, or a field is invalid.
    """
    if text.lstrip().startswith("{"):
        try:
            found = read_json(text)
        except json.JSONDecodeError as error:
            raise FieldError(f"not valid JSON: {error.msg}") from None
    else:
        parts = [part.strip() for part in text.split("|", 2)]
        found = {name: part for name, part in zip(_TEXTS, parts, strict=False) if part or name == "title"}
        if "categories" in found:
            found["categories"] = found["categories"].split(",")
    fields = read_fields(found, ("item_id", *_TEXTS))
    if "title" not in fields:
        raise FieldError("no title; a new item needs one")
    return _item(fields)


def _item(fields: Mapping[str, Any]) -> Item:
    title, year = split_year(fields["title"])
    item_id = fields.get("item_id", f"new: {fields['title']}")
    return Item(item_id, title, fields.get("categories", ()), fields.get("description"), year)
