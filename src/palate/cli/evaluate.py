"""``palate evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option


def evaluate(
    predictors: Annotated[
        list[str],
        Argument(
            metavar="RUN|PREDICTOR…", help="Folders of runs, and counting, rule, shrinkage or population."
        ),
    ],
    data: Annotated[Path | None, Option(help="The dataset; the first run's own if not given.")] = None,
    split: Annotated[Literal["train", "dev", "test"], Option(help="Whose users.")] = "test",
    window: Annotated[
        int | None, Option(min=1, help="Interactions that are seen; the recipe's if not given.")
    ] = None,
) -> None:
    """Score models and references on the same examples."""
