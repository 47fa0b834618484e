"""Options for event and item files, which several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from typer import Option

RuleOption: TypeAlias = Annotated[
    Literal["thresholds", "own-mean", "quantiles"],
    Option(
        help="Label rule for recipes that give none: liked above and disliked below given means, relative to "
        "the user's own mean, or by quantiles of the users' mean ratings."
    ),
]
_COLUMNS, _MEANING = "Own files: columns, guessed if not given", "Own files: what they mean"


def _column(help_text: str) -> Any:
    return Option(metavar="COLUMN", help=help_text, rich_help_panel=_COLUMNS, show_default=False)


def _meaning(help_text: str, **settings: Any) -> Any:
    return Option(help=help_text, rich_help_panel=_MEANING, show_default=False, **settings)


def _options(
    items: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Item files, by name or glob; from the events' columns if not given.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        Option(
            metavar="csv|jsonl|parquet|sequences",
            help="Format of the event files, by their names if not given; sequences have a user and the user's items "
            "on each line, oldest first.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        Option(help="YAML file of the options below, like 'user: reader'; options given here win."),
    ] = None,
    columns: Annotated[
        str | None,
        _column("Names of all columns, separated by commas, where event files have no header line."),
    ] = None,
    user_col: Annotated[str | None, _column("The user's id.")] = None,
    item_col: Annotated[str | None, _column("The item's id, in the events and in the items.")] = None,
    rating_col: Annotated[str | None, _column("The rating, on any scale.")] = None,
    weight_col: Annotated[
        str | None, _column("Without ratings: how much an event counts, as plays or hours.")
    ] = None,
    event_type: Annotated[
        str | None,
        _column("Without ratings: what was done, as view, cart, purchase or skip."),
    ] = None,
    dwell: Annotated[str | None, _column("Without ratings: how many seconds an event lasted.")] = None,
    time_col: Annotated[
        str | None,
        _column("The time: since 1970, or ISO dates; else the files' order."),
    ] = None,
    review_col: Annotated[str | None, _column("The text that the user wrote of the item.")] = None,
    title_col: Annotated[
        str | None, _column("The item's title, or a template like '{name} by {author}'.")
    ] = None,
    category_col: Annotated[
        str | None,
        _column(
            "The categories that are asked about: a list in any form, records of which one field is a name (the field "
            "as in genres.name if it is not found), or names with a separator."
        ),
    ] = None,
    description_col: Annotated[
        str | None, _column("The item's description, or a template of columns.")
    ] = None,
    year_col: Annotated[str | None, _column("The item's year: a number, or a date or text with one.")] = None,
    separator: Annotated[
        str | None,
        _meaning("Between an item's categories; | ; , / are tried. Names in quotes stay whole."),
    ] = None,
    item_noun: Annotated[
        str | None, _meaning("What an item is called, like book; else by its column.")
    ] = None,
    category_noun: Annotated[
        str | None, _meaning("What a category is called, like genre; else by its column.")
    ] = None,
    feedback: Annotated[
        str | None, _meaning("Read events by their ratings, or as choices.", metavar="ratings|implicit")
    ] = None,
    event_weights: Annotated[
        str | None,
        _meaning(
            "What events of each type weigh, below 0 if they speak against an item; by their names if not given.",
            metavar="view=1,purchase=5,skip=-1",
        ),
    ] = None,
    repeats: Annotated[
        str | None,
        _meaning(
            "Keep repeated events of a user and an item, or merge them into one; kept in sequences and where events "
            "have types.",
            metavar="keep|merge",
        ),
    ] = None,
    rating_step: Annotated[float | None, _meaning("Round ratings to multiples of this.")] = None,
    max_categories: Annotated[
        int | None, _meaning("Keep so many categories, those of most items; 100.")
    ] = None,
    quotes: Annotated[
        bool | None,
        Option(
            "--quotes/--no-quotes",
            help="Whether quotes may enclose a field of CSV files; yes.",
            rich_help_panel=_MEANING,
            show_default=False,
        ),
    ] = None,
    skip_bad_rows: Annotated[
        bool, Option("--skip-bad-rows", help="Skip rows that cannot be read.", rich_help_panel=_MEANING)
    ] = False,
) -> None:
    """Options of event and item files: each is a setting of the same name, but for ``_col``."""


def reads_own_files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of event and item files; it is called with what they say as ``own``.

    The options stand in the place of its parameter ``own``.
    """

    @wraps(command)
    def run(**given: Any) -> None:
        from palate.data.tabular.settings import own_settings

        asked = {name: given.pop(name) for name in shared}
        path = asked.pop("settings")
        asked["skip_bad_rows"] = asked["skip_bad_rows"] or None
        said = {name.removesuffix("_col"): value for name, value in asked.items()}
        command(**given, own=own_settings(path, said))

    shared = inspect.signature(_options).parameters
    own = inspect.signature(command).parameters
    merged: dict[str, inspect.Parameter] = {}
    for name, parameter in own.items():
        merged |= shared if name == "own" else {name: parameter}
    hints = get_type_hints(_options, include_extras=True) | get_type_hints(command, include_extras=True)
    run.__annotations__ = {name: hints[name] for name in merged}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            for name, parameter in merged.items()
        ]
    )
    return run
