"""``palate evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from palate.cli.console import show_table


def evaluate(
    predictors: Annotated[
        list[str],
        Argument(metavar="RUN|REFERENCE...", help="Runs' folders; population, counting, rule or shrinkage."),
    ],
    data: Annotated[Path | None, Option(help="The dataset; the first run's own if not given.")] = None,
    split: Annotated[Literal["train", "dev", "test"], Option(help="Whose users are asked about.")] = "test",
    window: Annotated[
        int | None, Option(min=1, help="Interactions that are seen; the recipe's if not given.")
    ] = None,
    window_kind: Annotated[
        Literal["recent", "random"] | None, Option(help="Which ones; the recipe's if not given.")
    ] = None,
    seed: Annotated[int, Option(help="Decides what is drawn at random.")] = 0,
    out: Annotated[
        Path | None, Option(help="New folder for scores and answers; that of a single run if not given.")
    ] = None,
    transfer: Annotated[
        bool, Option("--transfer", help="Let runs answer about data that they were not trained on.")
    ] = False,
    bare: Annotated[
        bool, Option("--bare", help="Show neither references nor another user's history beside a run.")
    ] = False,
) -> None:
    """Score models and references on the same examples."""
    from palate.comparison import Options, compare_and_write
    from palate.evaluation_tables import evaluation_table

    options = Options(data, split, window, window_kind, seed, transfer, bare)
    show_table(evaluation_table(compare_and_write(predictors, options, out)))
