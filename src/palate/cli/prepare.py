"""``palate prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, tell, watched


def prepare(
    source: Annotated[str, Argument(help="A MovieLens release, like ml-100k, or a folder or zip of one.")],
    out: Annotated[Path, Option(help="Folder to write the dataset to.")],
    descriptions: Annotated[Path | None, Option(help="CSV file of the items' descriptions.")] = None,
    least_ratings: Annotated[int, Option(min=1, help="Leave out users with fewer ratings.")] = 20,
    dev_share: Annotated[float, Option(min=0, max=1, help="Share of the users in dev.")] = 0.1,
    test_share: Annotated[float, Option(min=0, max=1, help="Share of the users in test.")] = 0.1,
    seed: Annotated[int, Option(help="Decides which users are dev and test users.")] = 0,
) -> None:
    """Make a dataset from ratings and items."""
    from palate.data.prepare import prepare as run

    run(
        source,
        out,
        descriptions=descriptions,
        least_ratings=least_ratings,
        dev_share=dev_share,
        test_share=test_share,
        seed=seed,
        report=tell,
        progress=watched(),
    )
    show(str(out))
