"""Parses category names from table cells of any type and notation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

from palate.data.movielens.item_files import NOT_CATEGORIES
from palate.data.tabular.written_values import MalformedError, read_written, unquoted

_SEPARATORS = ("|", ";", ",", "/")
_LEAST_SHARE = 0.01
"""Minimum share of the texts that contain an inferred separator."""
# fmt: off
_NAME_FIELDS = (
    "name", "title", "label", "genre", "category", "tag", "topic", "subject", "term", "text", "display_name",
    "displayname", "description", "value", "slug", "alias", "element", "item", "array_element", "list", "bag",
)
# fmt: on
"""Names of the field that holds a record's name, likeliest first; the last are how Parquet writers nest lists."""
_NOT_NAMES = re.compile(
    r"(.*[_-])?(id|ids|uuid|code|count|n|num|rank|weight|score|order|votes|index|parent|level)"
)
"""Names of fields that describe a record otherwise; a record with one is not a map of names."""
_ID = re.compile(r"/\w+/\w+|[A-Za-z]{0,2}\d+")
_NO_TEXT = frozenset({"\\N", "nan", "NaN", "None", "null", "NULL", "<NA>", "N/A", "character(0)"})
"""Spellings of a missing value in text, by pandas, Python, R, databases and IMDb."""
_DEEPEST = 30


@dataclass(frozen=True)
class CategoryColumn:
    """The category names in each cell of a column."""

    names: list[list[str]]
    """Names by cell, ascending and distinct."""
    separator: str | None
    """Separator of names in plain text; None if there is none."""


class CellError(ValueError):
    """A cell whose names cannot be parsed; ``row`` is its position in the column."""

    def __init__(self, message: str, row: int = 0) -> None:
        super().__init__(message)
        self.row = row


def read_column(
    cells: Sequence[object], separator: str | None = None, field: str | None = None
) -> CategoryColumn:
    """Parse the names in every cell of a column; cells may differ in notation.

    Args:
        cells: Values of any type: text, numbers, lists, records, None.
        separator: Separator of names in plain text; inferred if None. Quoted text is not split.
        field: Field of records that holds the name; a common one if None.

    Returns:
        The names and the separator.

    Raises:
        CellError: A cell looks like a list or a record and cannot be parsed, or a record has no name.
    """
    if any(isinstance(cell, bytes) for cell in cells):
        cells = [_decoded(cell, row) if isinstance(cell, bytes) else cell for row, cell in enumerate(cells)]
    separator = separator or _guessed_separator([cell for cell in cells if isinstance(cell, str)])
    known: dict[str, list[str]] = {}  # most texts occur in many cells

    def read(cell: object) -> list[str]:
        if not isinstance(cell, str):
            return _clean(names_of(cell, field))
        if cell not in known:
            known[cell] = _clean(_names_in_text(cell, separator, field))
        return known[cell]

    names: list[list[str]] = []
    try:
        for cell in cells:
            names.append(read(cell))  # noqa: PERF401 - the length gives the invalid cell
    except (CellError, MalformedError) as error:
        raise CellError(f"{_shown(cells[len(names)])} {error}", len(names)) from None
    return CategoryColumn(names, separator)


def names_of(value: object, field: str | None = None, depth: int = 0) -> Iterator[str]:
    """Iterate over the names in a value: those of its elements or records, or the value itself.

    Raises:
        CellError: A record has no name, or the value is nested too deeply.
    """
    if depth > _DEEPEST:
        raise CellError(f"is nested deeper than {_DEEPEST} levels")
    if isinstance(value, str):
        yield from _names_in_element(value, field, depth)
    elif isinstance(value, Mapping):
        yield from names_of(_name_of_record(value, field), field, depth + 1)
    elif isinstance(value, bytes):
        yield _decoded(value)
    elif isinstance(value, Iterable):
        for one in value:
            yield from names_of(one, field, depth + 1)
    elif not _is_nothing(value):
        yield _scalar(value)


def _decoded(cell: bytes, row: int = 0) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        raise CellError("contains bytes that are not UTF-8 text", row) from None


def as_text(value: object) -> str | None:
    """Convert a title or description to text; elements of lists and records are joined by commas."""
    try:
        if isinstance(value, str):
            written = read_written(value) if re.match(r"""\s*\[\s*(['"\]])""", value) else None
            return value if written is None else as_text(written)
        return ", ".join(names_of(value)) or None
    except (CellError, MalformedError):
        return str(value)


def _names_in_text(text: str, separator: str | None, field: str | None) -> Iterator[str]:
    written = read_written(text)
    if written is not None:
        yield from names_of(written, field)
    elif text.strip() not in _NO_TEXT:
        yield from _split(text, separator)


def _names_in_element(text: str, field: str | None, depth: int) -> Iterator[str]:
    """Parse an element of a list: a name, or a record as text, as in JSON lines."""
    record = read_written(text) if text.startswith(('{"', "{'")) else None
    if isinstance(record, dict):
        yield from names_of(record, field, depth + 1)
    else:
        yield text


def _name_of_record(record: Mapping[Any, Any], field: str | None) -> object:
    """Return the name of a record, or the names of a map from names to numbers."""
    if field is not None:
        return _at(record, field.split("."))
    given = {str(key): value for key, value in record.items() if not _is_nothing(value)}
    if set(given) == {"key", "value"}:  # an entry of a map, as Parquet stores it
        return _names_of_map({str(given["key"]): given["value"]})
    by_plain_name = {key.lower(): value for key, value in given.items()}
    for name in _NAME_FIELDS:
        if name in by_plain_name:
            return by_plain_name[name]
    return _names_of_map(given)


def _at(value: object, path: Sequence[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _names_of_map(entries: Mapping[str, object]) -> list[object]:
    """Return the keys of {"fantasy": 12, "crime": 0} that are not 0, or the values of {"/m/0lsxr": "Crime"}."""
    if not any(_NOT_NAMES.fullmatch(key.lower()) for key in entries):
        if all(_is_number(value) for value in entries.values()):
            return [
                key
                for key, value in entries.items()
                if float(str(value).lower() not in ("false", "0", "0.0"))
            ]
        if all(_ID.fullmatch(key) and isinstance(value, str) for key, value in entries.items()):
            return list(entries.values())
    raise CellError(
        f"is a record without a name: its fields are {', '.join(map(repr, list(entries)[:6]))}, none of them name, "
        "title, label or the like"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (bool, Number)) or (
        isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?|[Tt]rue|[Ff]alse", value) is not None
    )


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _guessed_separator(texts: Sequence[str]) -> str | None:
    """Infer the separator: the one that splits the texts into fewer distinct names than texts."""
    distinct = {text for text in set(texts) if text and not text.lstrip().startswith(("[", "{"))}
    for separator in _SEPARATORS:
        holding = sum(separator in text for text in texts)
        names = {name.strip() for text in distinct for name in _split(text, separator)}
        if holding >= _LEAST_SHARE * len(texts) and len(names) < len(distinct):
            return separator
    return None


def _split(text: str, separator: str | None) -> list[str]:
    """Split a text at separators outside quotes."""
    if separator is None:
        separator = "\0"  # occurs in no text
    quote = r"'(?:[^'\\]|\\.)*'"
    if "'" in text and re.fullmatch(rf"\s*{quote}(\s*{re.escape(separator)}\s*{quote})+\s*", text, re.DOTALL):
        return [unquoted(one) for one in re.findall(quote, text, re.DOTALL)]
    if '"' not in text:
        return text.split(separator)
    end = rf"(?={re.escape(separator)}|$)"
    part = re.compile(rf'\s*"((?:[^"]|"")+)"\s*{end}|(.*?){end}', re.DOTALL)
    parts, at = [], 0
    while at <= len(text) and (match := part.match(text, at)):
        parts.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end() + len(separator)
    return parts


def _clean(names: Iterable[str]) -> list[str]:
    kept = {" ".join(name.split()).strip(", ") for name in names}
    return sorted(kept - NOT_CATEGORIES)


def _shown(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= 80 else text[:79] + "…"
