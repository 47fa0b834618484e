"""Settings for reading event and item files: columns, formats and interpretation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from palate.config.renames import PREPARE, renamed
from palate.config.section import Section
from palate.config.yaml_file import read_yaml
from palate.data.tabular.csv_files import CsvOptions
from palate.data.tabular.files import Format, expanded
from palate.errors import RecipeError, fault_message
from palate.schema import Feedback

Repeats: TypeAlias = Literal["keep", "merge"]
EVENT_COLUMNS = (("user_id", "item_id", "rating", "timestamp"), ("user_id", "item_id", "rating"))
ITEM_COLUMNS = (("item_id", "title", "genres"),)
"""Columns of ``::``-separated files without a header line, in MovieLens' order."""


class OwnData(Section):
    """Settings of :func:`palate.prepare` for event files; unset columns are inferred from names and reported.

    Example:
        >>> own = palate.OwnData(user="user_id", category="genre", repeats="merge")
        >>> palate.prepare("events.csv", items="items.csv", out="data/named", own=own, min_ratings=5).info.users
        24
    """

    format: Format | None = None
    """Format of the event files, by default from their extensions; ``sequences`` are lines of a user and items."""
    items: str | None = None
    """Item file, or a glob of several; by default items are read from the event files' columns."""
    columns: tuple[str, ...] | None = Field(None, min_length=2)
    """Column names of CSV event files without a header line."""
    quotes: bool = True
    """Whether fields of CSV files may be quoted."""
    user: str | None = None
    """Column of user ids."""
    item: str | None = None
    """Column of item ids, in event and item files."""
    rating: str | None = None
    """Column of ratings."""
    weight: str | None = None
    """Column of event weights, such as plays, quantity or hours, in data without ratings."""
    event_type: str | None = None
    """Column of event types, such as view, purchase or skip, in data without ratings."""
    event_weights: dict[str, float] | None = None
    """Weight of each event type; negative ones count against the item. By default from the types' names."""
    dwell: str | None = None
    """Column of dwell times in seconds, in data without ratings."""
    time: str | None = None
    """Column of times: seconds, milli-, micro- or nanoseconds since 1970, or ISO dates."""
    review: str | None = None
    """Column of texts that users wrote about items."""
    title: str | None = None
    """Column of the item's title, or a template of columns like ``{name} by {author}``."""
    category: str | None = None
    """Column of categories, the labels of the task: lists, records, or text with a separator; ``genres.code`` is the
    field ``code`` of the records in ``genres``."""
    description: str | None = None
    """Column of the item's description, or a template of columns."""
    year: str | None = None
    """Column of the item's year."""
    separator: str | None = Field(None, min_length=1)
    """Separator of an item's categories in text; inferred by default."""
    item_noun: str | None = Field(None, min_length=1)
    """Singular noun for an item; by default from column names."""
    category_noun: str | None = Field(None, min_length=1)
    """Singular noun for a category; by default from the column's name."""
    feedback: Feedback | None = None
    """Kind of feedback: ``ratings`` or ``implicit``; by default ``ratings`` if there is a rating column."""
    repeats: Repeats | None = None
    """``keep`` repeated events of a user with an item, or ``merge`` them into one; by default kept in sequences and in
    data with event types or dwell times, otherwise merged."""
    rating_step: float | None = Field(None, gt=0)
    """Round ratings to multiples of this; by default not."""
    max_categories: int = Field(100, ge=2)
    """Maximum number of categories; the most frequent are kept."""
    skip_bad_rows: bool = False
    """Skip and count invalid event rows; by default the first one raises an error."""

    @field_validator("columns", mode="before")
    @classmethod
    def _split(cls, columns: object) -> object:
        """Split the comma-separated names of an option."""
        return tuple(name.strip() for name in columns.split(",")) if isinstance(columns, str) else columns

    @field_validator("event_weights", mode="before")
    @classmethod
    def _parse(cls, weights: object) -> object:
        """Parse an option like ``view=1,purchase=5``."""
        if not isinstance(weights, str):
            return weights
        pairs = [one.partition("=") for one in weights.split(",")]
        if wrong := ["".join(one) for one in pairs if not all(part.strip() for part in one)]:
            raise ValueError(
                f"found {wrong[0]!r}, expected types with their weights, like view=1,purchase=5,skip=-1"
            )
        return {name.strip(): weight.strip() for name, _, weight in pairs}

    @field_validator("event_weights")
    @classmethod
    def _check_weights(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        for name, weight in (weights or {}).items():
            if not math.isfinite(weight):
                raise ValueError(f"the weight of {name!r} is {weight}, expected a finite number")
        return weights

    def keeps_repeats(self, typed: bool) -> bool:
        """Return whether repeated events are kept; ``typed`` says whether events have types or dwell times."""
        return self.repeats == "keep" or (self.repeats is None and (typed or self.format == "sequences"))

    @property
    def event_csv(self) -> CsvOptions:
        """Options for CSV event files."""
        return CsvOptions(self.columns or (), EVENT_COLUMNS, self.quotes)

    @property
    def item_csv(self) -> CsvOptions:
        """Options for CSV item files."""
        return CsvOptions((), ITEM_COLUMNS, self.quotes)


def own_settings(path: Path | None, given: Mapping[str, Any]) -> OwnData:
    """Merge the settings of a YAML file with given ones that are not None, which take precedence.

    Raises:
        RecipeError: A setting is unknown or invalid; the message names its key.
    """
    written = {} if path is None else read_yaml(expanded(path))
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return OwnData.model_validate({**written, **options})
    except ValidationError as error:
        raise RecipeError("; ".join(_worded(fault, path, options) for fault in error.errors())) from None


def _worded(fault: ErrorDetails, path: Path | None, options: Mapping[str, Any]) -> str:
    """Format one validation error with the file that the setting is from, if it is not an option."""
    key = [str(part) for part in fault["loc"]]
    name = key[0] if key else ""
    place = "" if path is None or name in options else f"{path}: "
    if name in OwnData.model_fields:
        return f"{place}{'.'.join(key)}: {fault_message(fault)}"
    if said := renamed(name, PREPARE):
        return f"{place}{said}"
    close = get_close_matches(name, OwnData.model_fields, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(OwnData.model_fields)}"
    return f"{place}unknown key '{name}'; {hint}"
