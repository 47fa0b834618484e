"""Parses ids of users and items uniformly from columns of any type."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from palate.data.tabular.files import RowFiles
from palate.errors import DataError

_MANTISSA = {"Float64": 53, "Float32": 24, "Float16": 11}
"""Mantissa bits by type: whole numbers up to 2 to this power are exact."""
_TEXT = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
_ROUNDED = r"^[+-]?\d(?:\.\d+)?[eE]\+\d+$"
"""1.23457E+11, as a spreadsheet writes a long number."""
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\ufffd]"
_ADVICE = "write the ids as text or as whole numbers"


def read_ids(ids: pl.Series, path: Path) -> pl.Series:
    """Parse a column of ids.

    Args:
        ids: The column as stored in the file, [N].
        path: The file, for errors.

    Returns:
        Whole numbers as Int64 (UInt64 if stored as such), all else as stripped text, [N]; null where the id is missing
        or empty. Floating-point numbers that are whole and exact count as whole numbers: pandas converts a column to
        floats when a value is missing.

    Raises:
        DataError: The column has a type that cannot be ids, or its ids have lost digits.
    """
    dtype = ids.dtype
    if dtype.is_float():
        return _from_floats(ids, path)
    if dtype.is_decimal():
        return _from_decimals(ids, path)
    if dtype == pl.UInt64:
        return ids
    if dtype.is_integer():
        whole: pl.Series = ids.cast(pl.String if str(dtype).endswith("128") else pl.Int64)
        return whole
    if dtype not in _TEXT:
        raise DataError(f"column {ids.name!r} holds {dtype}, expected ids: text or whole numbers", path)
    try:
        text: pl.Series = ids.cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError:
        raise DataError(f"column {ids.name!r} has bytes that are not UTF-8 text; {_ADVICE}", path) from None
    return text.set(text == "", None)


def check_ids(column: str, ids: Iterable[str], files: RowFiles) -> None:
    """Raise :class:`DataError`, with its line, for an id that was damaged before it was written to the file.

    These are numbers rounded by a spreadsheet, like ``1.23457E+11``, and text with control characters or undecodable
    characters.

    Args:
        column: Name of the id column.
        ids: The distinct ids in the column.
        files: The files with the column.
    """
    found = pl.Series([*ids], dtype=pl.String)
    found = found.filter(found.str.contains(f"{_ROUNDED}|{_UNPRINTABLE}"))
    if found.is_empty():
        return
    rows = 0
    for batch in files.batches([column]):
        at = read_ids(batch.table[column], batch.path).is_in(found.to_list()).arg_true()
        if len(at):
            path, line = files.line_of(rows + int(at[0]))
            shown = batch.table[column][int(at[0])]
            raise DataError(
                f"the id {shown!r} in column {column!r} is a rounded number or has unprintable characters, so that "
                f"distinct ids may have become equal; {_ADVICE}",
                path,
                line,
            )
        rows += len(batch.table)


def _from_floats(ids: pl.Series, path: Path) -> pl.Series:
    present: pl.Series = ids.fill_nan(None)
    bits = _MANTISSA[str(ids.dtype)]
    fractional = present.filter(present != present.round())
    if len(fractional):
        raise DataError(
            f"column {ids.name!r} is {ids.dtype} with fractions, like {fractional[0]!r}, expected ids; {_ADVICE}",
            path,
        )
    large = present.filter(present.abs() >= 2.0**bits)
    if len(large):
        raise DataError(
            f"column {ids.name!r} is {ids.dtype} with values like {large[0]:.17g}, and above 2**{bits} such numbers "
            f"lose digits, so that distinct ids become equal; {_ADVICE} when the file is first created",
            path,
        )
    whole: pl.Series = present.cast(pl.Int64)
    return whole


def _from_decimals(ids: pl.Series, path: Path) -> pl.Series:
    text: pl.Series = ids.cast(pl.String)
    fractional = text.filter(text.str.contains(r"\.0*[1-9]"))
    if len(fractional):
        raise DataError(
            f"column {ids.name!r} is {ids.dtype} with fractions, like {fractional[0]}, expected ids; {_ADVICE}",
            path,
        )
    whole: pl.Series = text.str.replace(r"\..*$", "")
    return whole
