"""JSON lines: one object a line, read by Python's ``json`` module, with fractions as the text that is in the file.

No digit of a number is lost: 2**63 + 1 and 101463350189962023000 are ids like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from palate.data.json_text import unique_keys
from palate.data.tabular.skipped_rows import SkippedRows
from palate.data.tabular.text_files import check_text, text_lines
from palate.errors import DataError

_BATCH = 100_000
_WHOLE = re.compile(r"(-?\d+)\.0+")
_SURROGATE = re.compile("[\ud800-\udfff]")
NESTED = pl.Struct([])
"""The type of a field that holds objects; they are read as JSON text."""


def find_fields(path: Path, skipped: SkippedRows) -> dict[str, pl.DataType]:
    """Tell the fields of a file's objects, of all of them: a field may be missing from many.

    Args:
        path: The file.
        skipped: Whether lines that hold no object are left out.

    Returns:
        By name: a list of text where the field is ever a list, :data:`NESTED` where it is ever an object, true and
        false where it is never anything else, and else text.
    """
    fields: dict[str, pl.DataType] = {}
    known: set[tuple[Any, ...]] = set()
    for _, record in json_rows(path, skipped):
        shape = (*record, *map(type, record.values()))
        if shape not in known:
            known.add(shape)
            for name, value in record.items():
                fields[name] = _wider(fields.get(name), value)
    return {name: pl.String() if dtype == pl.Null else dtype for name, dtype in fields.items()}


def read_json_lines(
    path: Path, wanted: Mapping[str, pl.DataType], skipped: SkippedRows
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file in batches.

    Args:
        path: The file.
        wanted: Fields to read, with the types that :func:`find_fields` told.
        skipped: Whether lines that hold no object are left out, and their count.

    Yields:
        The wanted fields, as text or as lists of text; null where one is missing, null or NaN.

    Raises:
        DataError: A line holds no JSON object.
    """
    rows = json_rows(path, skipped)
    while batch := [record for _, record in islice(rows, _BATCH)]:
        yield pl.DataFrame([_column(name, dtype, batch) for name, dtype in wanted.items()])


def json_rows(path: Path, skipped: SkippedRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each object with its line; blank lines are none.

    Raises:
        DataError: A line holds something else and is not to be skipped.
    """
    for number, line in enumerate(text_lines(path), 1):
        if line.isspace():
            continue
        try:
            record = _object(line, path, number)
        except DataError:
            if skipped.may_skip():
                continue
            raise
        yield number, record


def first_skipped_line(path: Path) -> DataError | None:
    """Return what is wrong with the first line that :func:`read_json_lines` leaves out."""
    try:
        for _ in json_rows(path, SkippedRows(allowed=False)):
            pass
    except DataError as error:
        return error
    return None


def first_nested(path: Path, field: str, skipped: SkippedRows) -> int | None:
    """Return the line of the first object whose ``field`` holds a list or an object."""
    return next((n for n, row in json_rows(path, skipped) if isinstance(row.get(field), (list, dict))), None)


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    check_text(line, path, number)
    try:
        found = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg}; expected one object on each line", path, number
        ) from error
    except ValueError as error:  # a key that stands twice, or Python's limit on the digits of a number
        raise DataError(f"not valid JSON: {error}", path, number) from error
    except RecursionError:
        raise DataError("not valid JSON: nested too deeply", path, number) from None
    if not isinstance(found, dict):
        raise DataError('expected an object on each line, like {"user_id": 1, "item_id": 2}', path, number)
    if "\\u" in line and _SURROGATE.search(json.dumps(found, ensure_ascii=False)):
        raise DataError(
            "a text holds half of a surrogate pair (\\ud800 to \\udfff), which is no character", path, number
        )
    return found


def _number(text: str) -> str:
    """Convert 12.0 to 12, as integers are written by floating-point writers."""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _constant(name: str) -> str | None:
    """NaN is how Python and pandas write a number that is missing."""
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_constant, object_pairs_hook=unique_keys)


def _wider(known: pl.DataType | None, value: object) -> pl.DataType:
    """Combine the type of a field with that of another value."""
    if isinstance(value, list) or isinstance(known, pl.List):
        return pl.List(pl.String())
    if isinstance(value, dict) or known == NESTED:
        return NESTED
    if value is None:
        return pl.Null() if known is None else known
    return (
        pl.Boolean() if isinstance(value, bool) and known in (None, pl.Boolean(), pl.Null()) else pl.String()
    )


def _column(name: str, dtype: pl.DataType, rows: Sequence[Mapping[str, Any]]) -> pl.Series:
    values = [row.get(name) for row in rows]
    if isinstance(dtype, pl.List):
        return pl.Series(name, [None if value is None else [*_texts(value)] for value in values], dtype)
    if dtype == pl.Boolean:
        return pl.Series(name, values, dtype)
    texts = [value if value is None or value.__class__ is str else _text(value) for value in values]
    return pl.Series(name, texts, pl.String())


def _texts(value: object) -> Iterable[str | None]:
    """Flatten nested lists, as in ``[["Books", "Fiction"], ["Books"]]``."""
    if not isinstance(value, list):
        yield _text(value)
        return
    for one in value:
        yield from [None] if one is None else _texts(one)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
