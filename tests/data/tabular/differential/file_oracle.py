"""Test oracle of event and item files, which uses only ``csv`` and ``json``: the contract of palate's reader.

It is written from docs/data.md and common sense, not from ``palate.data``. The contract:

1.  **Every row is accounted for.** The rows of the event files are the interactions, plus what the report counts:
    ``bad_rows`` (left out with ``skip_bad_rows``), ``ratings_of_unknown_items``, ``duplicate_ratings`` (of several
    ratings of an item by a user the last in time counts, of those the last in the files) and ``repeated_events``
    (events without ratings, whose weights are summed, at the last time). The rows of an item file are the items, plus
    ``duplicate_items`` (the first counts) and ``items_without_id``.
2.  **Or the work ends** with a DataError that names a file, and the line where the format has lines.
3.  **Only what is wrong is refused.** A file that is well-formed by the oracle is read.
4.  **No value changes.** Ids are text without the blanks around them, or whole numbers; ratings are finite numbers,
    or true and false, up and down; times are numbers since 1970 whose unit their size tells, or ISO dates (UTC where
    they name no zone), kept in whole seconds but compared exactly. Categories are a list, a text with a separator, or
    a list as JSON or Python writes it.

A row is a *fault* without a user or an item, or with a rating or time that is none: it is refused, or counted with
``skip_bad_rows``. So is a *bad line*, which is no row at all (not UTF-8, no JSON, more fields than the header), but it
may be refused with ``skip_bad_rows``, too. A file is *broken* where nothing could be read with certainty: it is always
refused. What is odd but readable is a *doubt*: it may be refused, or read as the oracle does, or counted with
``skip_bad_rows``.
"""

import ast
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

WORDS = {"true": 1.0, "false": 0.0, "up": 1.0, "down": 0.0}
MORE_WORDS = {"yes": 1.0, "no": 0.0, "like": 1.0, "dislike": 0.0}
NO_CATEGORY = {"", "unknown", "(no genres listed)"}
PLAIN = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6))
NOT_UTF8, NO_JSON, NO_OBJECT = "not UTF-8", "no JSON", "no object"
MORE_FIELDS = "more fields than the header"
BAD_LINES = (NOT_UTF8, NO_JSON, NO_OBJECT, MORE_FIELDS)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Fault:
    """A reason why the files cannot be read, and the lines concerned."""

    path: Path | None  # None where no single file is to blame
    what: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True)
class Row:
    """One record, by column name."""

    path: Path
    first: int | None
    last: int | None
    cells: dict[str, Any]
    separators_alone: bool = False


@dataclass
class Told:
    """Everything that the files contain: rows and faults."""

    interactions: dict[tuple[str, str], tuple[float, Fraction]] = field(default_factory=dict)
    items: dict[str, tuple[str, int | None, tuple[str, ...], str | None]] = field(default_factory=dict)
    report: Counter = field(default_factory=Counter)
    rows: int = 0
    blank_items: int = 0
    told_again: int = 0
    blank_rows: int = 0  # of separators alone: a blank line to some, a row without a user to others
    faults: list[Fault] = field(default_factory=list)
    broken: list[Fault] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    lines_are_certain: bool = True
    counts: bool = True  # the weights are whole numbers
    strict: frozenset[str] = frozenset()  # doubts that are faults

    def doubt(self, what: str) -> None:
        """Note a doubt; raises :class:`NoValueError` if it counts as a fault."""
        self.doubts.append(what)
        if what in self.strict:
            raise NoValueError(what)


class NoValueError(ValueError):
    """Raised for a cell that is not an id, number or time."""


@dataclass(frozen=True)
class Source:
    """A file, with the facts that its bytes do not show."""

    path: Path
    format: str  # csv, jsonl or parquet
    delimiter: str = ","
    table: Any = None  # of Parquet: the rows that were written


@dataclass(frozen=True)
class Columns:
    """Column names by role."""

    user: str = "user_id"
    item: str = "item_id"
    value: str | None = "rating"
    time: str | None = "timestamp"
    item_key: str = "item_id"  # in the item file
    title: str | None = "title"
    category: str = "genres"
    description: str | None = None
    year: str | None = None

    @property
    def of_events(self) -> list[str]:
        """Required columns of events."""
        return [name for name in (self.user, self.item, self.value, self.time) if name is not None]

    @property
    def of_items(self) -> list[str]:
        """Possible columns of items."""
        names = (self.item_key, self.title, self.category, self.description, self.year)
        return [name for name in names if name is not None]


def read_all(
    events: list[Source],
    items: Source | None,
    columns: Columns,
    *,
    implicit: bool = False,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    strict: frozenset[str] = frozenset(),
) -> Told:
    """Read all events and items; ``strict`` lists the doubts that count as faults of an event's row."""
    told = Told(strict=strict)
    used = columns.of_events + (columns.of_items if items is None else [])
    rows = [row for source in events for row in read_rows(source, told, columns.of_events, used)]
    needed = [columns.item_key, columns.category]
    told.strict = strict if items is None else frozenset()
    item_rows = rows if items is None else read_rows(items, told, needed, columns.of_items)
    _read_items(item_rows, columns, separator, told, own_file=items is not None)
    if items is not None and not told.items:
        told.broken.append(Fault(items.path, "no items"))
    if items is not None:  # nothing of them is skipped
        told.broken += [one for one in told.faults if one.path == items.path]
        told.faults = [one for one in told.faults if one.path != items.path]
    _check_categories(told)
    told.strict = strict
    _read_events(rows, columns, implicit, told)
    if not told.faults or skip_bad_rows:
        _check_whole(told, implicit)
    return told


def read_rows(source: Source, told: Told, needed: list[str], used: list[str]) -> list[Row]:
    """Read the records of one file; faults of the file are added to ``told``."""
    if source.format == "parquet":
        return [Row(source.path, None, None, cells) for cells in source.table]
    text = _text(source.path, told)
    if text is None:
        return []
    if source.format == "jsonl":
        return _json_rows(source, text, told)
    return _csv_rows(source, text, told, needed, used)


def _text(path: Path, told: Told) -> str | None:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            told.broken.append(Fault(path, "not a whole gzip file"))
            return None
    if not data.strip():
        told.broken.append(Fault(path, "empty"))
        return None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        told.doubts.append("UTF-16")
        return data.decode("utf-16")
    data = data.removeprefix(b"\xef\xbb\xbf")
    text = data.decode("utf-8", "surrogateescape")
    if "\0" in text:
        told.doubts.append("NUL")
    return text


def _csv_rows(source: Source, text: str, told: Told, needed: list[str], used: list[str]) -> list[Row]:
    records = list(_csv_records(source, text, told))
    if not records:
        return []
    header, *rest = records
    if not header[2]:
        told.doubts.append("a blank line before the header")
        header, *rest = [one for one in records if one[2]]
    names = header[2]
    if not_utf8("".join(names)):
        told.broken.append(Fault(source.path, "not UTF-8", *header[:2]))
        return []
    for name in used:
        if names.count(name) > 1 or (name in needed and name not in names):
            told.broken.append(Fault(source.path, f"{names.count(name)} columns {name!r}", *header[:2]))
            return []
    if len(set(names)) < len(names):
        told.doubts.append("two columns of one name")
    rows = []
    for first, last, fields, certain in rest:
        if not fields:
            continue
        try:
            if len(fields) > len(names):
                raise NoValueError(MORE_FIELDS)
            if not_utf8("".join(fields)):
                here = dict(zip(names, fields, strict=False))
                if not_utf8("".join(here.get(name, "") for name in used)):
                    raise NoValueError(NOT_UTF8)
                told.doubt("bytes that are not UTF-8 in a column that is not used")
            if not certain:
                told.doubt("a quote that is none")
            if len(fields) < len(names):
                told.doubt("fewer fields than the header")
        except NoValueError as error:
            told.rows += 1
            told.faults.append(Fault(source.path, str(error), first, last))
            continue
        padded = [*fields, *[""] * (len(names) - len(fields))]
        nothing = not any(map(str.strip, padded))
        rows.append(Row(source.path, first, last, dict(zip(names, padded, strict=True)), nothing))
    return rows


def not_utf8(text: str) -> bool:
    """Return whether the text contains bytes that are not UTF-8."""
    return re.search("[\udc80-\udcff]", text) is not None


def _csv_records(source: Source, text: str, told: Told):
    """Yield first line, last line and fields of each record; quotes that violate RFC 4180 are a doubt or a break."""
    lines = list(io.StringIO(text, newline=""))
    csv.field_size_limit(1 << 30)
    reader = csv.reader(lines, delimiter=source.delimiter)
    last = 0
    for fields in reader:
        first, last = last + 1, reader.line_num
        if lines[last - 1].endswith("\r"):
            told.doubts.append("lone CR")
        told.lines_are_certain &= not re.search("\r(?!\n)", "".join(lines[first - 1 : last]))
        certain = True
        try:
            list(csv.reader(lines[first - 1 : last], delimiter=source.delimiter, strict=True))
        except csv.Error:
            if last > first:
                told.broken.append(Fault(source.path, "a quote that swallows lines", first, len(lines)))
                return
            certain = False
        yield first, last, fields, certain


def _json_rows(source: Source, text: str, told: Told) -> list[Row]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if "\r" in line.strip():
            told.doubts.append("lone CR")
            told.lines_are_certain = False
            pieces = [piece for piece in line.split("\r") if piece.strip()]
            rows += _json_pieces(source, pieces, number, told)
            continue
        rows += _json_pieces(source, [line], number, told)
    return rows


def _json_pieces(source: Source, pieces: list[str], number: int, told: Told) -> list[Row]:
    found = [_json_row(source, piece, number, told) for piece in pieces]
    return [row for row in found if row is not None]


def _json_row(source: Source, text: str, number: int, told: Told) -> Row | None:
    try:
        return Row(source.path, number, number, _json_object(text, told))
    except NoValueError as error:
        told.rows += 1
        told.faults.append(Fault(source.path, str(error), number, number))
        return None


def _json_object(line: str, told: Told) -> dict[str, Any]:
    if not_utf8(line):
        raise NoValueError(NOT_UTF8)
    try:
        found = json.loads(line, object_pairs_hook=lambda pairs: _object(pairs, told))
    except NoValueError:
        raise
    except (ValueError, RecursionError):
        raise NoValueError(NO_JSON) from None
    if not isinstance(found, dict):
        raise NoValueError(NO_OBJECT)
    if re.search(r"\b(NaN|Infinity)\b", line):
        told.doubt("NaN in JSON")
    if re.search("[\ud800-\udfff]", json.dumps(found, ensure_ascii=False)):
        told.doubt("half a surrogate pair")
    return found


def _object(pairs, told: Told) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        told.doubt("a key twice")
    return dict(pairs)


# -- events ----------------------------------------------------------------------------------------------------------


def _read_events(rows: list[Row], columns: Columns, implicit: bool, told: Told) -> None:
    unit = 1 if columns.time is None else _unit([row.cells.get(columns.time) for row in rows])
    for order, row in enumerate(rows):
        if row.separators_alone:
            told.blank_rows += 1
            told.doubts.append("a row of separators alone")
        else:
            told.rows += 1
            _read_event(row, order, columns, unit, implicit, told)
    told.report["bad_rows"] = len(told.faults)
    told.counts = all(value == int(value) for value, _ in told.interactions.values())


def _read_event(row: Row, order: int, columns: Columns, unit: int, implicit: bool, told: Told) -> None:
    try:
        event = _event(row, order, columns, unit, implicit, told)
    except NoValueError as error:
        told.faults.append(Fault(row.path, str(error), row.first, row.last))
    else:
        _take(*event, implicit=implicit, told=told)


def _event(row: Row, order: int, columns: Columns, unit: int, implicit: bool, told: Told):
    cells = row.cells
    user = read_id(cells.get(columns.user), told)
    item = read_id(cells.get(columns.item), told)
    value = 1.0 if columns.value is None else read_number(cells.get(columns.value), told)
    if implicit and value <= 0:
        raise NoValueError("a weight that is not above 0")
    time = Fraction(order) if columns.time is None else read_time(cells.get(columns.time), unit, told)
    return user, item, value, time


def _take(user: str, item: str, value: float, time: Fraction, *, implicit: bool, told: Told) -> None:
    if item not in told.items:
        told.report["ratings_of_unknown_items"] += 1
        return
    known = told.interactions.get((user, item))
    if known is not None and implicit:
        told.report["repeated_events"] += 1
        value, time = known[0] + value, max(known[1], time)
    elif known is not None:
        told.report["duplicate_ratings"] += 1
        value, time = (value, time) if time >= known[1] else known
    told.interactions[user, item] = value, time


def _check_whole(told: Told, implicit: bool) -> None:
    """Add faults of the files as a whole: too little data for a dataset."""
    values = {value for value, _ in told.interactions.values()}
    if not implicit and len(values) < 2:  # a rating that was replaced may have made them two
        told.doubts.append("one rating value")
    if len({user for user, _ in told.interactions}) < 3:
        told.broken.append(Fault(None, "fewer than three users"))


def _check_categories(told: Told) -> None:
    categories = {name for _, _, names, _ in told.items.values() for name in names}
    if not all(re.search(r"\w", name) for name in categories):
        told.doubts.append("a category that no answer could name")
    if len(categories) < 2:
        told.broken.append(Fault(None, "fewer than two categories"))


# -- items -----------------------------------------------------------------------------------------------------------


def _read_items(rows: list[Row], columns: Columns, separator: str | None, told: Told, own_file: bool) -> None:
    there = {name for row in rows for name in row.cells}
    if (
        {columns.title, columns.description, columns.year} - there - {None}
    ):  # JSON objects leave out what is null
        told.doubts.append("a column that no row has")
    for row in rows:
        if row.separators_alone:
            told.blank_items += own_file
            continue
        try:
            item_id = read_id(row.cells.get(columns.item_key if own_file else columns.item), told)
        except NoValueError as error:
            if own_file:
                told.report["items_without_id"] += 1
                if row.cells.get(columns.item_key) not in (None, "") and str(error) != "missing":
                    told.broken.append(Fault(row.path, f"an item's id: {error}", row.first, row.last))
            continue
        if item_id in told.items:
            told.report["duplicate_items"] += own_file
            told.told_again += not own_file  # which may be in other words, that are counted
            continue
        title = read_text(row.cells.get(columns.title), told) if columns.title else None
        told.items[item_id] = (
            title or item_id,
            _year(row.cells.get(columns.year)) if columns.year else None,
            read_categories(row.cells.get(columns.category), separator, told),
            read_text(row.cells.get(columns.description), told) if columns.description else None,
        )


def read_text(cell: Any, told: Told) -> str | None:
    """Collapse blanks; None for an empty text."""
    if cell is None:
        return None
    if isinstance(cell, float):
        told.doubt("a number as text")
    return " ".join(str(cell).split()) or None


def _year(cell: Any) -> int | None:
    found = None if cell is None else re.search(r"(?:^|\D)(\d{4})(?:\D|$)", str(cell), re.ASCII)
    return int(found[1]) if found else None


def read_categories(cell: Any, separator: str | None, told: Told) -> tuple[str, ...]:
    """Return the distinct names in ascending order."""
    if isinstance(cell, str) and separator is None and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:
            cell = ast.literal_eval(cell)
    if isinstance(cell, str):
        cell = cell.split(separator) if separator else [cell]
    names = []
    for name in cell or ():
        if isinstance(name, dict):
            told.doubt("categories that are objects")
            name = name["name"]
        if name is not None:
            names.append(" ".join(str(name).split()))
    return tuple(sorted(set(names) - NO_CATEGORY))


# -- single values ---------------------------------------------------------------------------------------------------


def read_id(cell: Any, told: Told) -> str:
    """Return text without surrounding blanks, or a whole number."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise NoValueError("missing")
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool):
        told.doubt("true or false as an id")
        return str(cell).lower()
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, (float, Decimal)):
        if not math.isfinite(cell) or cell != int(cell) or (isinstance(cell, float) and abs(cell) >= 2**53):
            raise NoValueError("a number that is not whole, or not exact")
        return str(int(cell))
    raise NoValueError("neither text nor a whole number")


def read_number(cell: Any, told: Told) -> float:
    """Parse a finite number, or a boolean word as 1 or 0."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise NoValueError("missing")
    if isinstance(cell, str):
        text = cell.strip().lower()
        if text in WORDS or text in MORE_WORDS:
            if text in MORE_WORDS:
                told.doubt("a word as a rating")
            return {**WORDS, **MORE_WORDS}[text]
        if not NUMBER.fullmatch(text):
            raise NoValueError("not a number")
        if not PLAIN.fullmatch(text):
            told.doubt("a number in odd digits")
        cell = float(text)
    if not isinstance(cell, (bool, int, float, Decimal)):
        raise NoValueError("not a number")
    try:
        number = float(cell)
    except OverflowError:
        raise NoValueError("too large") from None
    if not math.isfinite(number):
        raise NoValueError("not finite")
    return number


def _unit(cells: list[Any]) -> int:
    numbers = sorted(abs(number) for number in map(_number_of_time, cells) if number is not None)
    if not numbers:
        return 1
    middle = numbers[len(numbers) // 2]
    return next((unit for most, unit in UNITS if middle < most), 10**9)


def _number_of_time(cell: Any) -> Fraction | None:
    if isinstance(cell, str) and NUMBER.fullmatch(cell.strip()):
        return Fraction(Decimal(cell.strip()))
    if isinstance(cell, bool) or not isinstance(cell, (int, float, Decimal)) or not math.isfinite(cell):
        return None
    return Fraction(cell)


def read_time(cell: Any, unit: int, told: Told) -> Fraction:
    """Parse a time as exact seconds since 1970."""
    number = _number_of_time(cell)
    if number is not None:
        if isinstance(cell, str) and not PLAIN.fullmatch(cell.strip()):
            told.doubt("a time in odd digits")
        return number / unit
    if isinstance(cell, str):
        text = cell.strip()
        try:
            cell = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            raise NoValueError("not a time") from None
        if not ISO.fullmatch(text):
            told.doubt("an odd ISO date")
    if isinstance(cell, datetime):
        cell = cell if cell.tzinfo else cell.replace(tzinfo=timezone.utc)
        return Fraction((cell - EPOCH) // timedelta(microseconds=1), 10**6)
    if isinstance(cell, date):
        return Fraction((cell - EPOCH.date()).days * 86_400)
    raise NoValueError("not a time")
