"""Parses times of events: numbers since 1970, with the unit inferred from their magnitude, or ISO dates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from palate.errors import DataError

_UNITS = ((10**11, "seconds", 1), (10**14, "milliseconds", 10**3), (10**17, "microseconds", 10**6))
"""Units with their upper bounds (about the year 5138) and units per second."""
_LARGEST = "nanoseconds"
_NUMBER = r"^\s*-?\d+(\.\d*)?([eE]\+?\d+)?\s*$"
_COMPACT = r"^(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$"
"""20240531: a date if all values match; as a number of seconds it would be a day in 1970."""
_FORMATS = (
    "%Y%m%d",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M%#z",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f%#z",
)
_ZONE_NAME = re.compile(r":\d\d\S*\s*([A-Za-z][\w/+-]*|\[.*\])$")
_EXPECTED = "expected numbers since 1970 or ISO dates like 2024-05-31 or 2024-05-31T23:59:00Z"


@dataclass(frozen=True)
class Times:
    """Format of a time column, and its conversion to ticks."""

    ticks: pl.Expr  # Int64; null where a value is not a time, or is in another unit
    per_second: int  # ticks per second
    told: str  # the format in words
    plain: tuple[int, int, int] | None = None
    """Of numbers: lower and upper bound of whole numbers in the unit, and ticks per unit."""

    def read(self, column: pl.Series) -> pl.Series:
        """Convert a column to ticks, with a fast path for whole numbers in the unit."""
        if self.plain is not None and (column.dtype == pl.String or column.dtype.is_integer()):
            lowest, most, ticks = self.plain
            whole: pl.Series = column.cast(pl.Int64, strict=False)
            if len(whole) and whole.null_count() == 0 and whole.is_between(lowest, most - 1).all():
                scaled: pl.Series = whole * ticks
                return scaled
        return column.to_frame().select(self.ticks).to_series()

    def complaint(self, value: object) -> str:
        """Describe why a value, of which ``ticks`` is null, is not a valid time."""
        zone = _ZONE_NAME.search(str(value).strip())
        if zone:
            return (
                f"the time {value!r} has the zone {zone[1]!r}, which may be ambiguous; "
                "expected UTC or an offset like +02:00"
            )
        try:
            size = abs(float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return f"the time {value!r} differs in format from most of the column; expected {self.told}"
        return (
            f"the time {value!r} is in {_unit(size)[0]}, but most of the column are {self.told}; use one unit"
        )


def find_times(column: str, sample: pl.Series, path: Path | None = None) -> Times:
    """Infer the format of a time column from a sample.

    Args:
        column: The column's name.
        sample: A sample of its values, [N].
        path: The file, for errors.

    Raises:
        DataError: The values are not times.
    """
    sample = sample.drop_nulls()
    dtype = sample.dtype
    if dtype in (pl.Date, pl.Datetime):
        return Times(pl.col(column).cast(pl.Datetime("us")).dt.timestamp("us"), 10**6, "dates")
    if dtype.is_integer() and len(sample) and sample.cast(pl.String).str.contains(_COMPACT).all():
        return Times(_parsed(pl.col(column).cast(pl.String), "%Y%m%d"), 10**6, "dates like 20240531")
    if dtype.is_numeric():
        return _numbers(pl.col(column), sample.cast(pl.Float64))
    if dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise DataError(f"the time column {column!r} holds {dtype}, expected numbers or ISO dates", path)
    text, sample = pl.col(column).cast(pl.String).str.strip_chars(), sample.cast(pl.String).str.strip_chars()
    compact = len(sample) > 0 and sample.str.contains(_COMPACT).all()
    if not compact and (sample.is_empty() or sample.str.contains(_NUMBER).mean() > 0.5):  # type: ignore[operator]
        return _numbers(text, sample.cast(pl.Float64, strict=False).drop_nulls())
    fitting = [form for form in _FORMATS if _fits(sample, form)]
    if not fitting:
        zone = _ZONE_NAME.search(sample[0])
        hint = f"; the zone {zone[1]!r} must be UTC or an offset like +02:00" if zone else ""
        raise DataError(f"the time column {column!r} holds {sample[0]!r}, {_EXPECTED}{hint}", path)
    return Times(pl.coalesce(_parsed(_plain(text), form) for form in fitting), 10**6, "ISO dates")


def _numbers(column: pl.Expr, sample: pl.Series) -> Times:
    unit, per_second = _unit(abs(float(sample.median() or 0.0)))  # type: ignore[arg-type]
    finer = 10**6 if per_second == 1 else 1  # fractions of seconds order events
    number = column.cast(pl.Float64, strict=False)
    whole = pl.coalesce(column.cast(pl.Int64, strict=False), number.cast(pl.Int64, strict=False)) * finer
    rounded = (number * finer).round().cast(pl.Int64, strict=False)
    ticks = pl.when(number == number.floor()).then(whole).otherwise(rounded)
    size = number.abs()
    lowest = max((most for most, _, each in _UNITS if each < per_second), default=0)
    most = next((most for most, _, each in _UNITS if each == per_second), 2**63 - 1)
    same_unit = ((size == 0) | (size >= lowest)) & (
        size < most
    )  # 0 is 1970 in every unit, and often a missing value
    return Times(
        pl.when(same_unit).then(ticks), per_second * finer, f"{unit} since 1970", (lowest, most, finer)
    )


def _unit(size: float) -> tuple[str, int]:
    return next(((unit, each) for most, unit, each in _UNITS if size < most), (_LARGEST, 10**9))


def _fits(sample: pl.Series, form: str) -> bool:
    parsed = sample.to_frame().select(_parsed(_plain(pl.col(sample.name)), form).is_not_null().any())
    return bool(parsed.item())


def _plain(text: pl.Expr) -> pl.Expr:
    """Normalise an ISO time: a blank before the time, and the zone as an offset."""
    text = text.str.replace(r"[Tt](\d)", " $1")
    text = text.str.replace(r"\s*(?i:Z|UTC|GMT)$", "+00:00")
    return text.str.replace(r"(:\d\d(?:\.\d+)?)\s+([+-]\d\d)", "${1}${2}")


def _parsed(text: pl.Expr, form: str) -> pl.Expr:
    if form.endswith("%#z"):
        parsed = text.str.to_datetime(form, time_unit="us", strict=False, time_zone="UTC")
        return parsed.dt.timestamp("us")
    if "%H" not in form:
        return text.str.to_date(form, strict=False).cast(pl.Datetime("us")).dt.timestamp("us")
    return text.str.to_datetime(form, time_unit="us", strict=False).dt.timestamp("us")
