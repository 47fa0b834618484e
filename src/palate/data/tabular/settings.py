"""Settings of event and item files: columns and their interpretation."""

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
"""Columns of files that ``::`` separates and that have no header line: MovieLens' order."""


class OwnData(Section):
    """Settings of :func:`palate.prepare` for event files; what is not given is inferred and reported.

    Example:
        >>> own = palate.OwnData(user="user_id", category="genre", repeats="merge")
        >>> palate.prepare("events.csv", items="items.csv", out="data/named", own=own, min_ratings=5).info.users
        24
    """

    format: Format | None = None
    """Format of the event files, by their names if not given; ``sequences`` are lines of a user and items."""
    items: str | None = None
    """File of the items, or a glob of several; without one the events' own columns tell of the items."""
    columns: tuple[str, ...] | None = Field(None, min_length=2)
    """Names of the columns of CSV event files that have no header line."""
    quotes: bool = True
    """Whether quotes may enclose a field of a CSV file, as its standard says."""
    user: str | None = None
    """Column of the user's id."""
    item: str | None = None
    """Column of the item's id, in the events and in the items."""
    rating: str | None = None
    """Column of the rating."""
    weight: str | None = None
    """Column of how much an event counts where there are no ratings: plays, quantity, hours."""
    event_type: str | None = None
    """Column of what was done, as view, purchase or skip, where there are no ratings."""
    event_weights: dict[str, float] | None = None
    """How much an event of each type weighs; below 0 it speaks against the item. By the types' names if not given."""
    dwell: str | None = None
    """Column of how many seconds an event lasted, where there are no ratings."""
    time: str | None = None
    """Column of the time: seconds, milli- or microseconds since 1970, or ISO dates."""
    review: str | None = None
    """Column of the text that the user wrote of the item."""
    title: str | None = None
    """Column of the item's title, or a template of columns like ``{name} by {author}``."""
    category: str | None = None
    """Column of the categories that the task asks about: a list, records, or text with a separator; ``genres.code``
    is the field ``code`` of the records in ``genres``."""
    description: str | None = None
    """Column of the item's description, or a template of columns."""
    year: str | None = None
    """Column of the item's year."""
    separator: str | None = Field(None, min_length=1)
    """What stands between the categories of one item."""
    item_noun: str | None = Field(None, min_length=1)
    """What an item is called, in the singular."""
    category_noun: str | None = Field(None, min_length=1)
    """What a category is called, in the singular."""
    feedback: Feedback | None = None
    """Ratings, or that something was chosen at all; ratings where there is a column of them."""
    repeats: Repeats | None = None
    """Keep repeated events of a user and an item, each at its own time, or merge them into one; kept in sequences and
    where events have types or dwell times, merged elsewhere."""
    rating_step: float | None = Field(None, gt=0)
    """Round ratings to multiples of this."""
    max_categories: int = Field(100, ge=2)
    """Keep the categories that most items have."""
    skip_bad_rows: bool = False
    """Leave out, and count, event rows that cannot be read; otherwise the first one ends the work."""

    @field_validator("columns", mode="before")
    @classmethod
    def _split(cls, columns: object) -> object:
        """As an option, the names are separated by commas."""
        return tuple(name.strip() for name in columns.split(",")) if isinstance(columns, str) else columns

    @field_validator("event_weights", mode="before")
    @classmethod
    def _parse(cls, weights: object) -> object:
        """As an option, they are like ``view=1,purchase=5``."""
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
        """Whether repeated events of a user and an item stay apart, where events have types or dwell times or none."""
        return self.repeats == "keep" or (self.repeats is None and (typed or self.format == "sequences"))

    @property
    def event_csv(self) -> CsvOptions:
        """How CSV event files are read."""
        return CsvOptions(self.columns or (), EVENT_COLUMNS, self.quotes)

    @property
    def item_csv(self) -> CsvOptions:
        """How CSV item files are read."""
        return CsvOptions((), ITEM_COLUMNS, self.quotes)


def own_settings(path: Path | None, given: Mapping[str, Any]) -> OwnData:
    """Merge the settings of a YAML file with given ones that are not None.

    Raises :class:`RecipeError` that names the key at fault.
    """
    written = {} if path is None else read_yaml(expanded(path))
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return OwnData.model_validate({**written, **options})
    except ValidationError as error:
        raise RecipeError("; ".join(_worded(fault, path, options) for fault in error.errors())) from None


def _worded(fault: ErrorDetails, path: Path | None, options: Mapping[str, Any]) -> str:
    """One fault, by the file that it stands in or as an option."""
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
