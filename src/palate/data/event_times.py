"""Times of events: whole numbers since 1970, whose unit their size tells, or ISO dates."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from palate.errors import DataError

_UNITS = ((10**11, "seconds", 1), (10**14, "milliseconds", 10**3), (10**17, "microseconds", 10**6))
"""A number of years that nobody's events are in: the size up to which a number is in that unit."""
_NUMBER = r"^\s*-?\d+(\.\d*)?([eE]\+?\d+)?\s*$"
_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S%.f",
)


@dataclass(frozen=True)
class Times:
    """How a column of times is read: as ticks, ``per_second`` of them a second."""

    ticks: pl.Expr  # Int64; null where a value is no time
    per_second: int
    told: str


def find_times(column: str, sample: pl.Series) -> Times:
    """Tell from some of its values how a column is read; raises :class:`DataError` when they are no times."""
    sample = sample.drop_nulls()
    if sample.dtype.is_temporal():
        ticks = pl.col(column).cast(pl.Datetime("us")).dt.timestamp("us")
        return Times(ticks, 10**6, "dates")
    if sample.dtype.is_numeric():
        return _numbers(pl.col(column), sample.cast(pl.Float64))
    if sample.dtype != pl.String:
        raise DataError(f"the time column {column!r} holds {sample.dtype}, expected numbers or ISO dates")
    if sample.str.contains(_NUMBER).mean() or not len(sample):
        return _numbers(pl.col(column).str.strip_chars(), sample.cast(pl.Float64, strict=False).drop_nulls())
    plain = _plain(pl.col(sample.name))
    fitting = [
        form for form in _FORMATS if sample.to_frame().select(_parsed(plain, form).is_not_null().any()).item()
    ]
    if not fitting:
        raise DataError(
            f"the time column {column!r} holds {sample[0]!r}, expected numbers since 1970 or ISO dates like "
            "2024-05-31 or 2024-05-31T23:59:00Z"
        )
    ticks = pl.coalesce(_parsed(_plain(pl.col(column)), form) for form in fitting)
    return Times(ticks, 10**6, "ISO dates")


def _numbers(column: pl.Expr, sample: pl.Series) -> Times:
    size = abs(float(sample.median() or 0.0))  # type: ignore[arg-type]
    unit, per_second = next(
        ((unit, per_second) for most, unit, per_second in _UNITS if size < most), ("nanoseconds", 10**9)
    )
    whole = column.cast(pl.Int64, strict=False)
    rounded = column.cast(pl.Float64, strict=False).round().cast(pl.Int64, strict=False)
    return Times(pl.coalesce(whole, rounded), per_second, f"{unit} since 1970")


def _plain(column: pl.Expr) -> pl.Expr:
    """A blank between date and time, and Z as an offset."""
    text = column.str.strip_chars().str.replace("T", " ", literal=True)
    return text.str.replace(r" ?(Z|UTC)$", "+00:00")


def _parsed(text: pl.Expr, form: str) -> pl.Expr:
    if form.endswith("%#z"):
        parsed = text.str.to_datetime(form, time_unit="us", strict=False, time_zone="UTC")
        return parsed.dt.timestamp("us")
    if "%H" not in form:
        return text.str.to_date(form, strict=False).cast(pl.Datetime("us")).dt.timestamp("us")
    return text.str.to_datetime(form, time_unit="us", strict=False).dt.timestamp("us")
