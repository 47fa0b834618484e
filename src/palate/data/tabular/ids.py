"""Ids of users and items, read in one way wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from palate.data.tabular.files import RowFiles
from palate.errors import DataError

_MANTISSA = {"Float64": 53, "Float32": 24, "Float16": 11}
"""Bits: a floating-point number up to two to this power holds every whole number."""
_TEXT = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
_ROUNDED = r"^[+-]?\d(?:\.\d+)?[eE]\+\d+$"
"""1.23457E+11, as a spreadsheet writes a long number."""
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\ufffd]"
_ADVICE = "write the ids as text or as whole numbers"


def read_ids(ids: pl.Series, path: Path) -> pl.Series:
    """Read a column of ids.

    Args:
        ids: The column as the file holds it, [N].
        path: The file, for errors.

    Returns:
        Whole numbers as Int64, or as UInt64 where the file has that, and all else as text without the blanks around
        it, [N]. Null where there is no id, or an empty one. Floating-point numbers that are whole and small enough to
        be exact are whole numbers: pandas makes them of whole numbers when one is missing.

    Raises:
        DataError: The column holds no ids, or ids that have lost digits.
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
        raise DataError(f"column {ids.name!r} holds bytes that are no UTF-8 text; {_ADVICE}", path) from None
    return text.set(text == "", None)


def check_ids(column: str, ids: Iterable[str], files: RowFiles) -> None:
    """Raise :class:`DataError`, with its line, for an id that has lost something on its way into the file.

    These are numbers that a spreadsheet has rounded, like ``1.23457E+11``, and text with control characters or with
    characters that could not be decoded.

    Args:
        column: The ids' column.
        ids: The distinct ids in it.
        files: The files that they are from.
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
                f"the id {shown!r} in column {column!r} is a rounded number, or has unprintable characters; "
                f"other ids may have become the same; {_ADVICE}",
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
            f"column {ids.name!r} holds {ids.dtype} with fractions, like {fractional[0]!r}, expected ids; {_ADVICE}",
            path,
        )
    large = present.filter(present.abs() >= 2.0**bits)
    if len(large):
        raise DataError(
            f"column {ids.name!r} holds {ids.dtype} like {large[0]:.17g}, and above 2**{bits} such numbers have lost "
            f"digits, so that ids run together; {_ADVICE} from the start",
            path,
        )
    whole: pl.Series = present.cast(pl.Int64)
    return whole


def _from_decimals(ids: pl.Series, path: Path) -> pl.Series:
    text: pl.Series = ids.cast(pl.String)
    fractional = text.filter(text.str.contains(r"\.0*[1-9]"))
    if len(fractional):
        raise DataError(
            f"column {ids.name!r} holds {ids.dtype} with fractions, like {fractional[0]}, expected ids; {_ADVICE}",
            path,
        )
    whole: pl.Series = text.str.replace(r"\..*$", "")
    return whole
