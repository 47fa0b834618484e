"""Options for event and item files, shared by several commands."""

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
        help="Default label rule of recipes: a category is liked above and disliked below fixed mean ratings, the "
        "user's own mean, or quantiles of the users' mean ratings."
    ),
]
_COLUMNS = "Your own files: columns, inferred from their names if not given"
_MEANING = "Your own files: interpretation"


def _column(help_text: str) -> Any:
    return Option(metavar="COLUMN", help=help_text, rich_help_panel=_COLUMNS, show_default=False)


def _meaning(help_text: str, **settings: Any) -> Any:
    return Option(help=help_text, rich_help_panel=_MEANING, show_default=False, **settings)


def _options(
    items: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Item files, by name or glob; items are read from the event files if not given.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        Option(
            metavar="csv|jsonl|parquet|sequences",
            help="Format of the event files; by their names if not given. Files of sequences hold a user and the "
            "user's items on each line, oldest first.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        Option(
            help="YAML file of the options below, such as 'user: reader'; command-line options take precedence."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        _column("Names of all columns, separated by commas, for event files without a header line."),
    ] = None,
    user_col: Annotated[str | None, _column("The user's id.")] = None,
    item_col: Annotated[str | None, _column("The item's id, in the events and in the items.")] = None,
    rating_col: Annotated[str | None, _column("The rating, on any scale.")] = None,
    weight_col: Annotated[
        str | None, _column("Without ratings: the event's weight, such as plays or hours.")
    ] = None,
    event_type: Annotated[
        str | None,
        _column("Without ratings: the event's type, such as view, cart, purchase or skip."),
    ] = None,
    dwell: Annotated[str | None, _column("Without ratings: the dwell time in seconds.")] = None,
    time_col: Annotated[
        str | None,
        _column("The time: a number since 1970, or an ISO date; without it, the order of the rows counts."),
    ] = None,
    review_col: Annotated[str | None, _column("The user's review of the item.")] = None,
    title_col: Annotated[
        str | None, _column("The item's title, or a template like '{name} by {author}'.")
    ] = None,
    category_col: Annotated[
        str | None,
        _column(
            "The item's categories: a list in any notation, records with a name field (as genres.name if it is not "
            "found), or names with a separator."
        ),
    ] = None,
    description_col: Annotated[
        str | None, _column("The item's description, or a template of columns.")
    ] = None,
    year_col: Annotated[str | None, _column("The item's year: a number, or a date or text with one.")] = None,
    separator: Annotated[
        str | None,
        _meaning(
            "Separator of an item's categories; | ; , / are tried if not given. Quoted names are not split."
        ),
    ] = None,
    item_noun: Annotated[
        str | None, _meaning("Noun for an item, such as book; by the item column's name if not given.")
    ] = None,
    category_noun: Annotated[
        str | None,
        _meaning("Noun for a category, such as genre; by the category column's name if not given."),
    ] = None,
    feedback: Annotated[
        str | None,
        _meaning("Whether events are explicit ratings or implicit feedback.", metavar="ratings|implicit"),
    ] = None,
    event_weights: Annotated[
        str | None,
        _meaning(
            "Weight of each event type, negative for types that count against an item; by the types' names if not "
            "given.",
            metavar="view=1,purchase=5,skip=-1",
        ),
    ] = None,
    repeats: Annotated[
        str | None,
        _meaning(
            "Whether to keep repeated events of a user with an item or to merge them; keep for sequences and events "
            "with types, else merge.",
            metavar="keep|merge",
        ),
    ] = None,
    rating_step: Annotated[float | None, _meaning("Step to whose multiples ratings are rounded.")] = None,
    max_categories: Annotated[
        int | None, _meaning("Maximum number of categories, the most frequent ones; default 100.")
    ] = None,
    quotes: Annotated[
        bool | None,
        Option(
            "--quotes/--no-quotes",
            help="Whether quotes may enclose a field of CSV files; yes by default.",
            rich_help_panel=_MEANING,
            show_default=False,
        ),
    ] = None,
    skip_bad_rows: Annotated[
        bool, Option("--skip-bad-rows", help="Skip rows that cannot be read.", rich_help_panel=_MEANING)
    ] = False,
) -> None:
    """Declare the options of event and item files, each named as its setting, some with the suffix ``_col``."""


def reads_own_files(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command with the options of event and item files, in place of its parameter ``own``.

    The command is called with the settings from these options as ``own``.
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
