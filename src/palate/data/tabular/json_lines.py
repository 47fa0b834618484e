"""Reads JSON lines, one object per line, with Python's ``json`` module; numbers with fractions are kept as text.

No digit of a number is lost: 2**63 + 1 and 101463350189962023000 are valid ids.
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
"""Type of a field with objects, which are read as JSON text."""


def find_fields(path: Path, skipped: SkippedRows) -> dict[str, pl.DataType]:
    """Infer the fields and their types from all objects of a file; a field may be missing from many objects.

    Args:
        path: The file.
        skipped: Whether lines without an object may be skipped.

    Returns:
        Type by field name: list of text if any value is a list, otherwise :data:`NESTED` if any is an object,
        otherwise boolean if all values are, otherwise text.
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
        wanted: Fields to read, with their types from :func:`find_fields`.
        skipped: Whether lines without an object may be skipped; counts them.

    Yields:
        The wanted fields, as text, booleans or lists of text; null where one is missing, null or NaN.

    Raises:
        DataError: A line is not a JSON object and may not be skipped.
    """
    rows = json_rows(path, skipped)
    while batch := [record for _, record in islice(rows, _BATCH)]:
        yield pl.DataFrame([_column(name, dtype, batch) for name, dtype in wanted.items()])


def json_rows(path: Path, skipped: SkippedRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each object with its line number; blank lines are ignored.

    Raises:
        DataError: A line is not a JSON object and may not be skipped.
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
    """Return the error of the first line that :func:`read_json_lines` skips; None if it skips none."""
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
    except ValueError as error:  # a duplicate key, or Python's limit on the digits of a number
        raise DataError(f"not valid JSON: {error}", path, number) from error
    except RecursionError:
        raise DataError("not valid JSON: nested too deeply", path, number) from None
    if not isinstance(found, dict):
        raise DataError('expected an object on each line, like {"user_id": 1, "item_id": 2}', path, number)
    if "\\u" in line and _SURROGATE.search(json.dumps(found, ensure_ascii=False)):
        raise DataError(
            "a text contains half of a surrogate pair (\\ud800 to \\udfff), expected valid Unicode",
            path,
            number,
        )
    return found


def _number(text: str) -> str:
    """Convert 12.0 to 12: integers from a floating-point column."""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _constant(name: str) -> str | None:
    """Convert NaN, which Python and pandas write for a missing number, to None."""
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
