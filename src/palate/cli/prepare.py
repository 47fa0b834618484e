"""The ``palate prepare`` command: makes a dataset from ratings and items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from palate.cli.console import show, tell, watched
from palate.cli.own_files import RuleOption, reads_own_files

_KEPT = "Filters and splits"


@reads_own_files
def prepare(
    source: Annotated[
        list[str],
        Argument(
            metavar="SOURCE...",
            help="A MovieLens release, such as ml-100k, or a folder or zip of one; or event files (CSV, JSON lines, "
            "Parquet, sequences); or  example  for a made-up shop that comes with palate.",
        ),
    ],
    out: Annotated[Path, Option(help="Folder to write the dataset to.")],
    own: Any = None,
    descriptions: Annotated[Path | None, Option(help="CSV file with descriptions of the items.")] = None,
    min_ratings: Annotated[
        int | None,
        Option(
            min=1,
            help="Minimum number of ratings of a user; default 20, or 1 for items without categories.",
            rich_help_panel=_KEPT,
            show_default=False,
        ),
    ] = None,
    described_only: Annotated[
        bool,
        Option(
            "--described-only",
            help="Leave out items without a description, and their ratings, as in the paper.",
            rich_help_panel=_KEPT,
        ),
    ] = False,
    dev_share: Annotated[
        float, Option(min=0, max=1, help="Fraction of users in the dev split.", rich_help_panel=_KEPT)
    ] = 0.1,
    test_share: Annotated[
        float, Option(min=0, max=1, help="Fraction of users in the test split.", rich_help_panel=_KEPT)
    ] = 0.1,
    seed: Annotated[int, Option(help="Seed of the split.", rich_help_panel=_KEPT)] = 0,
    rule: RuleOption = "thresholds",
) -> None:
    """Make a dataset from files of events and items, or from a MovieLens release."""
    from palate.data.prepare import prepare as run

    run(
        source,
        out,
        own=own,
        descriptions=descriptions,
        min_ratings=min_ratings,
        dev_share=dev_share,
        test_share=test_share,
        seed=seed,
        described_only=described_only,
        rule=rule,
        report=tell,
        progress=watched(),
    )
    show(str(out))
