"""Values of interactions: ratings on the data's scale, or weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from palate.errors import DataError
from palate.schema import Doubles, RatingIndices

MOST_VALUES = 256
"""Maximum number of distinct values; indices are one byte."""
LIKE_AT, DISLIKE_AT = 0.625, 0.5
"""Relative positions of the paper's thresholds, 3.5 and 3.0, on their scale from 1 to 5."""
_WORDS = {
    **dict.fromkeys(("true", "yes", "up", "like", "liked", "thumbs_up", "thumbs up", "positive"), 1.0),
    **dict.fromkeys(
        ("false", "no", "down", "dislike", "disliked", "thumbs_down", "thumbs down", "negative"), 0.0
    ),
}
_MOST_TIMES = 16
_LEVELS = 5


@dataclass(frozen=True, eq=False)
class Scale:
    """Distinct values, ascending, and each interaction's index into them."""

    values: tuple[float, ...]
    index: RatingIndices  # [N]


def as_numbers(column: pl.Series, path: Path) -> pl.Series:
    """Convert a column of ratings or weights to Float64.

    Args:
        column: The values, [N]; text may be a number, or a word like true, no, up, dislike.
        path: The file, for errors.

    Returns:
        The numbers, [N], null where a value is not a number.

    Raises:
        DataError: The column's type is not numeric or text.
    """
    dtype = column.dtype
    if dtype in (
        pl.Categorical,
        pl.Enum,
        pl.Float32,
    ):  # as text, a Float32 of 3.3 is 3.3, not 3.299999952316284
        column = column.cast(pl.String)
    elif not (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null)):
        raise DataError(
            f"column {column.name!r} holds {dtype}, expected ratings or weights: numbers or words", path
        )
    numbers: pl.Series = column.cast(pl.Float64, strict=False)
    if column.dtype != pl.String or numbers.null_count() == column.null_count():
        return numbers
    text = pl.col(column.name).str.strip_chars()
    word = text.str.to_lowercase().replace_strict(
        list(_WORDS), list(_WORDS.values()), default=None, return_dtype=pl.Float64
    )
    return column.to_frame().select(pl.coalesce(text.cast(pl.Float64, strict=False), word)).to_series()


def rating_scale(ratings: Doubles, step: float | None) -> Scale:
    """Convert ratings [N], rounded to multiples of ``step`` if given, to a scale.

    Raises :class:`DataError` for a single value, and for more than 256.
    """
    if step is not None:
        ratings = np.round(np.round(ratings / step) * step, 9)
    values = np.unique(ratings)
    ends = f"{values[0]:g} to {values[-1]:g}" if len(values) else "none"
    if len(values) < 2:
        raise DataError(
            f"all ratings are the same ({ends}), so that they tell nothing about likes and dislikes; "
            "read the events with --feedback implicit"
        )
    if len(values) > MOST_VALUES:
        raise DataError(
            f"the ratings have {len(values):,} distinct values ({ends}), expected at most {MOST_VALUES}; "
            f"round them with --rating-step {_fitting_step(values):g}"
        )
    return Scale(tuple(values.tolist()), np.searchsorted(values, ratings).astype(np.uint8))


def default_thresholds(values: tuple[float, ...]) -> tuple[float, float]:
    """Return the thresholds of liked and disliked, at the paper's relative positions on the rating scale."""
    lowest, width = values[0], values[-1] - values[0]
    return tuple(round(lowest + at * width, 6) for at in (LIKE_AT, DISLIKE_AT))  # type: ignore[return-value]


def weight_scale(weights: Doubles) -> Scale:
    """Convert positive weights [N] to a scale that limits the influence of large ones.

    Whole numbers are counts and are rounded down to 1, 2, 4, 8 or 16. Other weights are binned into quintiles 1 to 5.
    """
    if (weights == np.floor(weights)).all():
        worth = np.exp2(np.floor(np.log2(np.minimum(weights, _MOST_TIMES))))
    else:
        edges = np.quantile(weights, np.arange(1, _LEVELS) / _LEVELS)
        worth = 1.0 + np.searchsorted(edges, weights, side="right")
    values, index = np.unique(worth, return_inverse=True)
    return Scale(tuple(values.tolist()), index.astype(np.uint8))


def given_scale(values: Doubles) -> Scale:
    """Convert values [N] of event types and dwell times to a scale; raises :class:`DataError` for more than 256."""
    distinct, index = np.unique(np.round(values, 9), return_inverse=True)
    if len(distinct) > MOST_VALUES:
        raise DataError(
            f"event types and dwell times give {len(distinct):,} distinct weights, expected at most {MOST_VALUES}; "
            "give fewer distinct --event-weights"
        )
    return Scale(tuple(distinct.tolist()), index.astype(np.uint8))


def _fitting_step(values: Doubles) -> float:
    """Find the smallest step of 1, 2 or 5 times a power of ten that leaves at most 256 values."""
    least = (values[-1] - values[0]) / (MOST_VALUES - 1)
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least))
