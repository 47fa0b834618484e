"""``palate prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from palate.cli.console import show, tell, watched

_KEPT, _COLUMNS, _MEANING = (
    "Who is kept",
    "Own files: columns, guessed if not given",
    "Own files: what they mean",
)


def _column(help_text: str) -> Any:
    return Option(metavar="COLUMN", help=help_text, rich_help_panel=_COLUMNS, show_default=False)


def _meaning(help_text: str, **settings: Any) -> Any:
    return Option(help=help_text, rich_help_panel=_MEANING, show_default=False, **settings)


def prepare(
    source: Annotated[
        list[str],
        Argument(
            metavar="SOURCE...",
            help="A MovieLens release like ml-100k, a folder or zip of one; or event files: CSV, JSON lines, Parquet.",
        ),
    ],
    out: Annotated[Path, Option(help="Folder to write the dataset to.")],
    descriptions: Annotated[Path | None, Option(help="CSV file of the items' descriptions.")] = None,
    items: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Item files, by name or glob; from the events' columns if not given.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        Option(help="YAML file of the options below, like 'user: reader'; options given here win."),
    ] = None,
    min_ratings: Annotated[
        int, Option(min=1, help="Leave out users with fewer ratings.", rich_help_panel=_KEPT)
    ] = 20,
    dev_share: Annotated[
        float, Option(min=0, max=1, help="Share of the users in dev.", rich_help_panel=_KEPT)
    ] = 0.1,
    test_share: Annotated[
        float, Option(min=0, max=1, help="Share of the users in test.", rich_help_panel=_KEPT)
    ] = 0.1,
    seed: Annotated[int, Option(help="Seed of the split.", rich_help_panel=_KEPT)] = 0,
    rule: Annotated[
        Literal["thresholds", "own-mean", "quantiles"],
        Option(
            help="Label rule for recipes that give none: liked above and disliked below given means, relative to "
            "the user's own mean, or by quantiles of the users' mean ratings."
        ),
    ] = "thresholds",
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
    time_col: Annotated[
        str | None,
        _column("The time: since 1970, or ISO dates; else the files' order."),
    ] = None,
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
    """Make a dataset from ratings and items."""
    from palate.data.prepare import prepare as run
    from palate.data.tabular.settings import own_settings

    given = {
        "items": items,
        "columns": columns,
        "quotes": quotes,
        "user": user_col,
        "item": item_col,
        "rating": rating_col,
        "weight": weight_col,
        "time": time_col,
        "title": title_col,
        "category": category_col,
        "description": description_col,
        "year": year_col,
        "separator": separator,
        "item_noun": item_noun,
        "category_noun": category_noun,
        "feedback": feedback,
        "rating_step": rating_step,
        "max_categories": max_categories,
        "skip_bad_rows": skip_bad_rows or None,
    }
    run(
        source,
        out,
        own=own_settings(settings, given),
        descriptions=descriptions,
        min_ratings=min_ratings,
        dev_share=dev_share,
        test_share=test_share,
        seed=seed,
        rule=rule,
        report=tell,
        progress=watched(),
    )
    show(str(out))
