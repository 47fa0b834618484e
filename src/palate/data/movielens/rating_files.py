"""Reads rating files in a fast pass; if it fails, a slow pass locates the invalid line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl

from palate.errors import DataError

WHOLE_STARS = (1.0, 2.0, 3.0, 4.0, 5.0)
HALF_STARS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)

_ID = re.compile(r"\d{1,10}")
_RATING = re.compile(r"\d+\.?\d*|\.\d+")
_TIME = re.compile(r"-?\d{1,18}")
_TIME_AS_FLOAT = re.compile(r"-?\d{1,15}(\.0*)?")
_HIGHEST_ID = 2**32 - 1


@dataclass(frozen=True)
class RatingLayout:
    """Format of a rating file: separator, columns and rating scale."""

    separator: str  # one character, or one character twice: "::"
    scale: tuple[float, ...]  # every rating value, ascending and evenly spaced
    header: tuple[str, str, str, str] | None = (
        None  # column names of user, item, rating and time; None: no header line
    )
    typed_header: bool = False  # names carry a type ("rating:float") and times may be written as floats


def read_ratings(path: Path, layout: RatingLayout) -> pl.DataFrame:
    """Read a rating file.

    Returns:
        The ratings in file order: ``user_id`` and ``item_id`` (UInt32), ``rating_index`` (UInt8, into
        ``layout.scale``) and ``timestamp`` (Int64).

    Raises:
        DataError: A row is invalid; the message names the file and the first such line.
    """
    names = (
        ["user_id", "item_id", "rating", "timestamp"] if layout.header is None else _read_header(path, layout)
    )
    try:
        table = _without_blank_lines(_parse(path, layout, names))
        return _checked(table, layout)
    except (pl.exceptions.PolarsError, _BadValue) as error:
        _raise_for_first_bad_line(path, layout, names, error)


class _BadValue(Exception):
    """The fast pass found an invalid value, which the slow pass locates."""


def _read_header(path: Path, layout: RatingLayout) -> list[str]:
    """Read the column names; the four required ones become user_id, item_id, rating and timestamp."""
    assert layout.header is not None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline().rstrip("\r\n")
    found = [name.partition(":")[0] if layout.typed_header else name for name in line.split(layout.separator)]
    for name in layout.header:
        if name not in found:
            expected = layout.separator.join(layout.header)
            raise DataError(f"no column {name!r} in the header {line[:80]!r}; expected {expected!r}", path, 1)
    role = dict(zip(layout.header, ("user_id", "item_id", "rating", "timestamp"), strict=True))
    return [role.get(name, f"extra {position}") for position, name in enumerate(found)]


def _parse(path: Path, layout: RatingLayout, names: Sequence[str]) -> pl.DataFrame:
    dtypes: dict[str, type[pl.DataType]] = {
        "user_id": pl.UInt32,
        "item_id": pl.UInt32,
        "rating": pl.Float32,
        "timestamp": pl.Float64 if layout.typed_header else pl.Int64,
    }
    schema: dict[str, type[pl.DataType]] = {}
    for position, name in enumerate(names):
        # "::" is parsed as two separators with an empty column between.
        if position and len(layout.separator) == 2:
            schema[f"gap {position}"] = pl.Boolean  # the smallest type that does not ignore spaces
        schema[name] = dtypes.get(name, pl.String)
    return pl.read_csv(
        path,
        separator=layout.separator[0],
        schema=schema,
        has_header=False,
        skip_rows=_lines_before_ratings(path, layout),
        quote_char=None,
        glob=False,
    )


def _lines_before_ratings(path: Path, layout: RatingLayout) -> int:
    """Count the lines before the first rating: polars infers the number of columns from the first line it reads."""
    header = 0 if layout.header is None else 1
    with path.open("rb") as file:
        return next((n for n, line in enumerate(file) if n >= header and line.strip()), header)


def _without_blank_lines(table: pl.DataFrame) -> pl.DataFrame:
    if table["user_id"].null_count() == 0:
        return table
    return table.filter(~pl.all_horizontal(pl.all().is_null()))


def _checked(table: pl.DataFrame, layout: RatingLayout) -> pl.DataFrame:
    gaps = [name for name in table.columns if name.startswith("gap")]
    if any(table[name].null_count() != table.height for name in gaps):
        raise _BadValue("a single separator where two were expected")
    table = table.select("user_id", "item_id", "rating", "timestamp")
    if any(table.null_count().row(0)):
        raise _BadValue("a field is missing")
    lowest, step = layout.scale[0], layout.scale[1] - layout.scale[0]
    position = (pl.col("rating") - lowest) / step
    on_scale = (position == position.round()) & position.is_between(0, len(layout.scale) - 1)
    if not table.select(on_scale.all()).item():
        raise _BadValue("a rating is off the scale")
    whole = pl.col("timestamp") == pl.col("timestamp").round()
    if layout.typed_header and not table.select((whole & pl.col("timestamp").is_finite()).all()).item():
        raise _BadValue("a time is not a whole number")
    return table.select(
        "user_id",
        "item_id",
        position.cast(pl.UInt8).alias("rating_index"),
        pl.col("timestamp").cast(pl.Int64),
    )


def _raise_for_first_bad_line(
    path: Path, layout: RatingLayout, names: Sequence[str], error: Exception
) -> NoReturn:
    """Read the file again line by line, up to the first invalid line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if (number == 1 and layout.header is not None) or not line.strip():
                continue
            complaint = _complaint(line.rstrip(b"\r\n"), layout, names)
            if complaint:
                raise DataError(complaint, path, number) from error
    raise DataError(f"cannot be read as ratings: {str(error).splitlines()[0]}", path) from error


def _complaint(line: bytes, layout: RatingLayout, names: Sequence[str]) -> str | None:
    """Describe the error in a line, or return None."""
    try:
        fields = line.decode("utf-8-sig").split(layout.separator)
    except UnicodeDecodeError:
        return "the line contains bytes that are not UTF-8 text; the file is damaged or in another encoding"
    if len(fields) != len(names):
        return f"found {len(fields)} fields, expected {len(names)} separated by {layout.separator!r}"
    # polars ignores spaces before a number, but not after it.
    value = {name: field.lstrip() for name, field in zip(names, fields, strict=True)}
    for name, label in (("user_id", "user id"), ("item_id", "movie id")):
        if not _ID.fullmatch(value[name]) or int(value[name]) > _HIGHEST_ID:
            return f"the {label} {value[name]!r} is not a whole number from 0 to {_HIGHEST_ID}"
    if not _RATING.fullmatch(value["rating"]):
        return f"the rating {value['rating']!r} is not a number"
    if float(value["rating"]) not in layout.scale:
        scale = ", ".join(f"{step:g}" for step in layout.scale)
        return (
            f"the rating {value['rating']} is not on the scale {scale}; if the file is not a MovieLens release and "
            "has another scale, give the unpacked file itself, and the item file with --items"
        )
    if not (_TIME_AS_FLOAT if layout.typed_header else _TIME).fullmatch(value["timestamp"]):
        return f"the time {value['timestamp']!r} is not a whole number of seconds"
    return None
