"""Reads history files: interactions with items of the catalogue, or with new items given as text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from palate.data.event_fields import FieldError, check_names_an_item, read_fields
from palate.data.event_types import Unrated
from palate.data.given_history import ReadEvent, history_of, new_items, read_event
from palate.data.json_text import filled_lines, read_json
from palate.errors import DataError
from palate.schema import History, Item

_LONGEST_FIELD = 1 << 24
"""Maximum length of a CSV field in characters; the csv module's default is 131,072."""


def read_history(
    path: Path | str, unrated: Unrated = None, may_be_empty: bool = False
) -> tuple[History, list[Item]]:
    """Read one user's history from JSON (``.json``), JSON lines (``.jsonl``) or CSV (``.csv``).

    An interaction has the ``item_id`` of a catalogue item and a ``rating`` or, if the data has event types or dwell
    times, an ``event_type`` or a ``dwell`` in seconds. A new item has a ``title``, with or without an ``item_id``, and
    optionally ``categories`` (a list, or ``Action|Comedy``) and a ``description``. ``timestamp``, a number since 1970
    or an ISO date, is optional: without it the file's order is used. JSON is a list of interactions or
    ``{"events": […]}``. The fields are parsed by :mod:`palate.data.event_fields`.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        unrated: Weight of an interaction without a rating, as ``dataset.info.unrated``: 1, or weights by event type;
            None if a rating is required.
        may_be_empty: Accept a file without interactions.

    Returns:
        The history, oldest first, and the new items.

    Raises:
        DataError: The file cannot be read or an interaction is invalid; the message has line and field.

    Example:
        >>> history, new_items = palate.read_history("me.json")
        >>> history.item_ids
        ['3', '8']
    """
    path = Path(path)
    rows = [(place, _event(fields, place, unrated)) for place, fields in _rows(path)]
    if not rows and not may_be_empty:
        raise DataError("no interactions; expected at least one", path)
    events = [event for _, event in rows]

    def wrong(index: int, said: str) -> DataError:
        return rows[index][0].error(said)

    return history_of(path.stem, events, wrong), new_items(events, wrong)


def check_history(path: Path) -> None:
    """Validate a history file as far as possible without the dataset; raises as :func:`read_history`."""
    empty = True
    for place, fields in _rows(path):
        empty = False
        try:
            check_names_an_item(read_fields(fields))
        except FieldError as error:
            raise place.error(str(error)) from None
    if empty:
        raise DataError("no interactions; expected at least one", path)


@dataclass(frozen=True)
class _Place:
    """Location of an interaction: its line, or None if the format has no lines, and its number from 1."""

    path: Path
    line: int | None
    number: int

    def error(self, message: str) -> DataError:
        event = "" if self.line is not None else f"interaction {self.number}: "
        return DataError(event + message, self.path, self.line)


_Rows: TypeAlias = Iterator[tuple[_Place, Any]]


def _rows(path: Path) -> _Rows:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"expected a file that ends in {', '.join(_READERS)}", path)
    return reader(path, _bytes(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", path) from None
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path) from error


def _read_json(path: Path, data: bytes) -> _Rows:
    found = _parse_json(data, path, 1)
    if isinstance(found, dict) and set(found) == {"events"}:
        found = found["events"]
    if not isinstance(found, list):
        raise DataError('expected a list of interactions, or {"events": […]}', path)
    for number, fields in enumerate(found, 1):
        yield _Place(path, None, number), fields


def _read_json_lines(path: Path, data: bytes) -> _Rows:
    for number, line in filled_lines(data):
        yield _Place(path, number, number), _parse_json(line, path, number)


def _read_csv(path: Path, data: bytes) -> _Rows:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("expected UTF-8 text", path, data.count(b"\n", 0, error.start) + 1) from None
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_header(rows.fieldnames or (), path)
        for number, row in enumerate(rows, 1):
            place = _Place(path, rows.line_num, number)
            if None in row or None in row.values():
                raise place.error(f"expected {len(rows.fieldnames or ())} fields, as in the first line")
            yield place, {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise DataError(f"not valid CSV: {error}", path, rows.line_num) from None


def _check_header(names: Sequence[str], path: Path) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"the column {name!r} occurs twice; expected each once", path, 1)


_READERS: dict[str, Callable[[Path, bytes], _Rows]] = {
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
}


def _parse_json(data: bytes, path: Path, first_line: int) -> Any:
    try:
        return read_json(data)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", path, first_line + error.lineno - 1) from None


def _event(fields: Any, place: _Place, unrated: Unrated) -> ReadEvent:
    try:
        return read_event(read_fields(fields), unrated)
    except FieldError as error:
        raise place.error(str(error)) from None
