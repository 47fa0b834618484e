"""The ``palate fold`` command: builds the states of all users in event logs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from palate.cli.console import show, tell, watched
from palate.cli.options import BackboneOption, EngineOption

_COLUMNS = "Columns, inferred from their names if not given"


def _column(help_text: str) -> Any:
    return Option(metavar="COLUMN", help=help_text, rich_help_panel=_COLUMNS, show_default=False)


def fold(
    events: Annotated[
        list[str], Argument(metavar="EVENTS...", help="Event files: CSV, JSON lines, Parquet.")
    ],
    run: Annotated[
        Path, Option(metavar="RUN", help="Run whose states are computed; or  packaged,  with --data.")
    ],
    out: Annotated[Path, Option(help="New folder for the states.")],
    previous: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder of an earlier fold to add the events to; default: start empty."),
    ] = None,
    data: Annotated[Path | None, Option(help="Dataset that a model without a catalogue is bound to.")] = None,
    engine: EngineOption = "local",
    workers: Annotated[int | None, Option(min=1, help="Number of processes; default: one per CPU.")] = None,
    blocks: Annotated[
        int | None,
        Option(min=1, max=65_535, help="Number of blocks of users; default: by the size of the files."),
    ] = None,
    format: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        Option(help="Format of the files; default: by their file names."),
    ] = None,
    columns: Annotated[
        str | None, _column("Names of all columns, separated by commas, for files without a header line.")
    ] = None,
    user_col: Annotated[str | None, _column("The user's id.")] = None,
    item_col: Annotated[str | None, _column("The item's id.")] = None,
    rating_col: Annotated[str | None, _column("The rating.")] = None,
    weight_col: Annotated[str | None, _column("Without ratings: the event's weight.")] = None,
    event_type: Annotated[str | None, _column("Without ratings: the event's type.")] = None,
    dwell: Annotated[str | None, _column("Without ratings: the dwell time in seconds.")] = None,
    time_col: Annotated[str | None, _column("The time: a number since 1970, or an ISO date.")] = None,
    id_col: Annotated[
        str | None,
        _column("The event's id; default event_id. Without ids, rows with equal content are one event."),
    ] = None,
    deleted_col: Annotated[
        str | None,
        _column("True in rows that delete the user's earlier events with the item; default deleted."),
    ] = None,
    quotes: Annotated[
        bool, Option("--quotes/--no-quotes", help="Whether quotes may enclose a field of CSV files.")
    ] = True,
    skip_bad_rows: Annotated[bool, Option("--skip-bad-rows", help="Skip rows that cannot be read.")] = False,
    backbone: BackboneOption = None,
) -> None:
    """Build the states of all users from event logs; run it again to resume an interrupted job."""
    from palate.data.tabular.settings import own_settings
    from palate.fold.job import FoldOptions, fold_log
    from palate.system.progress import counting_bar
    from palate.words import counted

    own = own_settings(
        None,
        {
            "format": format,
            "columns": columns,
            "user": user_col,
            "item": item_col,
            "rating": rating_col,
            "weight": weight_col,
            "event_type": event_type,
            "dwell": dwell,
            "time": time_col,
            "quotes": quotes,
            "skip_bad_rows": skip_bad_rows or None,
        },
    )
    options = FoldOptions(own, id_col, deleted_col, blocks, engine, workers)
    started = time.monotonic()
    with counting_bar("folding", watched()) as progress:
        manifest = fold_log(
            events,
            run,
            out,
            options,
            previous=previous,
            data=data,
            backbone=backbone,
            say=tell,
            progress=progress,
        )
    rebuilt = sum(one.rebuilt for one in manifest.blocks)
    tell(f"{counted(rebuilt, 'state')} built, {time.monotonic() - started:.1f} s, {manifest.digest[:19]}…")
    show(f"{counted(manifest.users, 'user')}: {counted(manifest.events, 'event')} in {out}")
