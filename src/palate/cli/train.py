"""``palate train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, tell, watched
from palate.cli.options import DeviceOption


def train(
    recipe: Annotated[Path, Argument(help="The recipe, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting; may be repeated, in any order.",
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(help="The run's folder; runs/NAME of the recipe if not given.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a model or a recommender by a recipe, or resume it."""
    from palate.config.load import load_recipe

    settings = load_recipe(recipe, overrides or ())
    from palate.runs.run import default_run

    place = out or default_run(settings)
    from palate.training.start import train_recipe

    show(str(train_recipe(settings, place, tell, progress=watched(), device=device)))
