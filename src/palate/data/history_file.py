"""A history from a file: interactions with items of the catalogue, or with new ones given as text."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from palate.data.item_files import split_year
from palate.errors import DataError
from palate.schema import History, Item

FIELDS = ("item_id", "title", "categories", "description", "rating", "timestamp")


def read_history(path: Path | str, unrated: float | None = None) -> tuple[History, list[Item]]:
    """Read one user's history from JSON (``.json``), JSON lines (``.jsonl``) or CSV (``.csv``).

    An interaction has a ``rating`` and an ``item_id`` of the catalogue. A new item has a ``title`` instead,
    or beside it, with ``categories`` (a list, or ``Action|Comedy``) and a ``description`` where there are any.
    ``timestamp``, in seconds, is optional: without it the file's order is the order. JSON is a list of
    interactions or ``{"events": […]}``. An interaction without a rating counts ``unrated``, if that is given: 1 for
    models of data without ratings.

    Returns the history, oldest first, and the new items. Raises :class:`DataError` with the line and field.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"expected a file that ends in {', '.join(_READERS)}", path)
    events = [_event(fields, place, unrated) for place, fields in reader(path, _text(path))]
    if not events:
        raise DataError("no interactions; expected at least one", path)
    return _history(events, path), _new_items(events)


@dataclass(frozen=True)
class _Place:
    """Where an interaction stands; counted in lines where the format has lines."""

    path: Path
    line: int | None
    number: int

    def error(self, message: str) -> DataError:
        event = "" if self.line is not None else f"interaction {self.number}: "
        return DataError(event + message, self.path, self.line)


@dataclass(frozen=True)
class _Event:
    place: _Place
    item_id: str
    item: Item | None  # given where the event brings its own texts
    rating: float
    timestamp: int | None


_Rows: TypeAlias = Iterator[tuple[_Place, Mapping[str, Any]]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("no such file", path) from None
    except UnicodeDecodeError:
        raise DataError("expected UTF-8 text", path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path) from error


def _read_json(path: Path, text: str) -> _Rows:
    found = _parse_json(text, path, 1)
    if isinstance(found, dict) and set(found) == {"events"}:
        found = found["events"]
    if not isinstance(found, list):
        raise DataError('expected a list of interactions, or {"events": […]}', path)
    for number, fields in enumerate(found, 1):
        yield _mapping(fields, _Place(path, None, number))


def _read_json_lines(path: Path, text: str) -> _Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _mapping(_parse_json(line, path, number), _Place(path, number, number))


def _read_csv(path: Path, text: str) -> _Rows:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(rows, 1):
            place = _Place(path, rows.line_num, number)
            if None in row or None in row.values():
                raise place.error(f"expected {len(rows.fieldnames or ())} fields, as in the first line")
            yield place, {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise DataError(f"not valid CSV: {error}", path, rows.line_num) from None


_READERS: dict[str, Callable[[Path, str], _Rows]] = {
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
}


def _parse_json(text: str, path: Path, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", path, first_line + error.lineno - 1) from None
    except (RecursionError, ValueError):
        raise DataError("not JSON of interactions", path, first_line) from None


def _mapping(fields: Any, place: _Place) -> tuple[_Place, Mapping[str, Any]]:
    if not isinstance(fields, dict):
        raise place.error(f"found {_shown(fields)}, expected an object with item_id or title, and rating")
    return place, {name: value for name, value in fields.items() if value is not None}


def _event(fields: Mapping[str, Any], place: _Place, unrated: float | None) -> _Event:
    for name in fields:
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected {', '.join(FIELDS)}"
            raise place.error(f"unknown field '{name}'; {hint}")
    item = _item(fields, place) if "title" in fields else None
    if item is None and "item_id" not in fields:
        raise place.error("neither item_id nor title; expected one of them")
    if item is None and ("categories" in fields or "description" in fields):
        raise place.error("categories or description without a title; a new item needs one")
    return _Event(
        place,
        _item_id(fields, place) if item is None else item.item_id,
        item,
        _rating(fields.get("rating", unrated), place),
        _timestamp(fields.get("timestamp"), place),
    )


def _item(fields: Mapping[str, Any], place: _Place) -> Item:
    written = _string(fields, "title", place)
    item_id = _item_id(fields, place) if "item_id" in fields else f"new: {written}"
    title, year = split_year(written)
    description = _string(fields, "description", place) if "description" in fields else None
    return Item(item_id, title, _categories(fields.get("categories", ()), place), description, year)


def _item_id(fields: Mapping[str, Any], place: _Place) -> str:
    found = fields["item_id"]
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return _string(fields, "item_id", place)


def _string(fields: Mapping[str, Any], name: str, place: _Place) -> str:
    found = fields[name]
    if not isinstance(found, str) or not found.strip():
        raise place.error(f"{name} is {_shown(found)}, expected text")
    return found.strip()


def _categories(found: Any, place: _Place) -> tuple[str, ...]:
    names = found.split("|") if isinstance(found, str) else found
    if not isinstance(names, Sequence) or not all(isinstance(one, str) and one.strip() for one in names):
        raise place.error(f"categories is {_shown(found)}, expected names like 'Action|Comedy' or a list")
    return tuple(dict.fromkeys(one.strip() for one in names))


def _rating(found: Any, place: _Place) -> float:
    number = _number(found)
    if number is None:
        raise place.error(f"rating is {_shown(found)}, expected a number")
    return number


def _timestamp(found: Any, place: _Place) -> int | None:
    if found is None:
        return None
    number = _number(found)
    if number is None or not number.is_integer() or not 0 <= number < 2**40:
        raise place.error(f"timestamp is {_shown(found)}, expected whole seconds since 1970")
    return int(number)


def _number(found: Any) -> float | None:
    """The number, from text too (CSV has nothing else); None for what is none, or not finite."""
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _shown(found: Any) -> str:
    if found is None:
        return "missing"
    text = repr(found)
    return text if len(text) <= 60 else text[:57] + "..."


def _history(events: Sequence[_Event], path: Path) -> History:
    timed = [event for event in events if event.timestamp is not None]
    if timed and len(timed) < len(events):
        event = next(event for event in events if event.timestamp is None)
        raise event.place.error("no timestamp, where others have one; give it to all or to none")
    ordered = sorted(enumerate(events), key=lambda pair: (pair[1].timestamp or 0, pair[0]))
    return History(
        user_id=path.stem,
        item_ids=[event.item_id for _, event in ordered],
        ratings=[event.rating for _, event in ordered],
        timestamps=[event.timestamp if event.timestamp is not None else order for order, event in ordered],
    )


def _new_items(events: Sequence[_Event]) -> list[Item]:
    items: dict[str, Item] = {}
    for event in events:
        if event.item and items.setdefault(event.item_id, event.item) != event.item:
            raise event.place.error(
                f"item '{event.item_id}' stands earlier with other texts; give it its own id"
            )
    return list(items.values())
