"""Parsing of event fields, shared by history files, requests and the client."""

from __future__ import annotations

import difflib
import math
import re
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final

from palate.errors import PalateError

EVENT_FIELDS = (
    "item_id",
    "title",
    "categories",
    "description",
    "rating",
    "text",
    "event_type",
    "dwell",
    "timestamp",
)
MAX_TEXT_LENGTH = 20_000
"""Maximum length of an event's text in characters."""
UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))
"""Upper bounds of timestamps in seconds, milli-, micro- and nanoseconds since 1970, and units per second."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TIME = re.compile(
    r"(?P<date>\d{4}([-/])\d\d\2\d\d)"
    r"([ T](?P<time>\d\d:\d\d(:\d\d)?)(\.\d+)?( ?(?P<zone>Z|UTC|[+-]\d\d(:?\d\d)?))?)?",
    re.ASCII,
)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60


class FieldError(PalateError, ValueError):
    """An invalid field: its name, what was found and what was expected."""


def read_fields(found: Any, known: Collection[str] = EVENT_FIELDS) -> dict[str, Any]:
    """Parse an event's fields; null counts as missing.

    Args:
        found: The decoded event.
        known: The allowed fields.

    Returns:
        The fields: ids and texts as ``str``, ``categories`` as a tuple, ``rating`` and ``dwell`` as a finite
            ``float``, ``timestamp`` in whole seconds since 1970.

    Raises:
        FieldError: The event is not an object, has an unknown field, or a field is invalid.
    """
    if not isinstance(found, Mapping):
        raise FieldError(f"found {shown(found)}, expected an object with {_named(known)}")
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(known)}"
            raise FieldError(f"unknown field {shown(name)}; {hint}")
    sent = {name: value for name, value in found.items() if value is not None}
    return {name: _READERS[name](value, name) for name, value in sent.items()}


def check_names_an_item(fields: Mapping[str, Any]) -> None:
    """Raise :class:`FieldError` for an event without an item, or with a description of an item but no title."""
    if "title" not in fields and "item_id" not in fields:
        raise FieldError("neither item_id nor title; expected one of them")
    if "title" not in fields and (fields.get("categories") or fields.get("description")):
        raise FieldError("categories or description without a title; a new item needs one")


def read_item_id(found: Any, name: str = "item_id") -> str:
    """Parse an item id: printable text, stripped, or an integer."""
    found_id = read_exact_id(found, name)
    if not (item_id := found_id.strip()):
        raise FieldError(f"{name} is {shown(found)}, expected text or a whole number")
    return item_id


def read_exact_id(found: Any, name: str) -> str:
    """Parse an id without stripping it: printable text, or an integer."""
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not found:
        raise FieldError(f"{name} is {shown(found)}, expected text or a whole number")
    if _UNPRINTABLE.search(found):
        raise FieldError(f"{name} is {shown(found)}, expected text without control characters")
    return found


def read_filled_text(found: Any, name: str) -> str:
    """Parse non-blank text and strip it."""
    if not isinstance(found, str) or not found.strip() or _SURROGATE.search(found):
        raise FieldError(f"{name} is {shown(found)}, expected text")
    return found.strip()


def read_event_text(found: Any, name: str = "text") -> str:
    """Parse an event's text of at most 20,000 characters; control characters become spaces."""
    if not isinstance(found, str) or len(found) > MAX_TEXT_LENGTH:
        limit = f"expected text of at most {MAX_TEXT_LENGTH:,} characters"
        raise FieldError(f"{name} is {shown(found)}, {limit}")
    return _UNPRINTABLE.sub(" ", found).strip()


def read_categories(found: Any, name: str = "categories") -> tuple[str, ...]:
    """Parse category names from a list or from text separated by ``|``; duplicates are dropped."""
    names = found.split("|") if isinstance(found, str) else found
    if not isinstance(names, Sequence) or not all(isinstance(one, str) and one.strip() for one in names):
        raise FieldError(f"{name} is {shown(found)}, expected names like 'Action|Comedy' or a list")
    return tuple(dict.fromkeys(read_filled_text(one, name) for one in names))


def read_rating(found: Any, name: str = "rating") -> float:
    """Parse a finite number, which may be text; booleans are invalid."""
    number = _number(found)
    if number is None:
        raise FieldError(f"{name} is {shown(found)}, expected a number")
    return number + 0.0  # -0.0 is 0.0


def read_timestamp(found: Any, name: str = "timestamp") -> int:
    """Parse a time to whole seconds since 1970, rounded down.

    Args:
        found: Seconds, milli-, micro- or nanoseconds since 1970, distinguished by magnitude; an ISO date or time; or a
            ``datetime``. Times without a zone are UTC.
        name: Name of the field, for errors.

    Returns:
        Seconds since 1970.

    Raises:
        FieldError: It is not a time.
    """
    if isinstance(found, date):
        seconds: int | None = _seconds(found)
    elif isinstance(found, str) and not _NUMBER.fullmatch(found.strip()):
        seconds = _seconds_of_text(found.strip())
    else:
        seconds = _seconds_of_number(found)
    if seconds is None or seconds < 0:
        raise FieldError(
            f"{name} is {shown(found)}, expected a time since 1970: a number of seconds, or an ISO date like "
            "2024-05-31T23:59:00Z"
        )
    return seconds


def shown(found: Any) -> str:
    """Format a value for a one-line message, truncated."""
    return "missing" if found is None else _SHOWN.repr(found)


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "item_id": read_item_id,
    "user_id": read_exact_id,
    "event_id": read_exact_id,
    "title": read_filled_text,
    "description": read_filled_text,
    "categories": read_categories,
    "rating": read_rating,
    "text": read_event_text,
    "event_type": read_filled_text,
    "dwell": read_rating,
    "timestamp": read_timestamp,
}


def _number(found: Any) -> float | None:
    """Parse a number, also from text, as in CSV; None if it is not a finite number."""
    if isinstance(found, str) and not _NUMBER.fullmatch(found.strip()):
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _seconds_of_number(found: Any) -> int | None:
    number = _number(found)
    if number is None or not 0 <= number < UNITS[-1][0]:
        return None
    per_second = next(per_second for most, per_second in UNITS if number < most)
    exact = (
        int(found)
        if isinstance(found, int) or (isinstance(found, str) and found.strip().isdecimal())
        else number
    )
    return int(exact // per_second)


def _seconds_of_text(text: str) -> int | None:
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    zone = parts["zone"] or "Z"
    offset = "+00:00" if zone in ("Z", "UTC") else f"{zone[:3]}:{zone[3:].removeprefix(':') or '00'}"
    when = f"{parts['date'].replace('/', '-')}T{parts['time'] or '00:00'}{offset}"
    try:
        return _seconds(datetime.fromisoformat(when))
    except ValueError:
        return None


def _seconds(when: date) -> int:
    if not isinstance(when, datetime):
        return (when - _EPOCH.date()).days * 86_400
    return ((when if when.tzinfo else when.replace(tzinfo=timezone.utc)) - _EPOCH) // timedelta(seconds=1)


def _named(known: Collection[str]) -> str:
    return "item_id or title, and rating" if "title" in known else "item_id and rating"
