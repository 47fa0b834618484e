"""The ``palate train`` command: trains or resumes what a recipe describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, show_table, tell, watched
from palate.cli.options import DeviceOption


def train(
    recipe: Annotated[Path, Argument(help="Recipe, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of the recipe; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(help="Run folder; runs/NAME with the recipe's name if not given.")
    ] = None,
    seeds: Annotated[
        str | None,
        Option(
            metavar="N[,N...]",
            help="Seeds, each trained into its own folder in --out; the recipe's seed if not given.",
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=A,B...",
            help="Values of a setting, each trained into its own folder in --out; may be repeated, for all "
            "combinations.",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a model or a recommender by a recipe, or resume it; with --seeds or --grid, several in sequence."""
    from palate.config.load import load_recipe

    if seeds is not None or grid:
        _train_several(recipe, overrides or (), out, seeds, grid or (), device)
        return
    settings = load_recipe(recipe, overrides or ())
    from palate.runs.run import default_run

    place = out or default_run(settings)
    from palate.training.start import train_recipe

    show(str(train_recipe(settings, place, tell, progress=watched(), device=device)))


def _train_several(
    recipe: Path,
    overrides: Sequence[str],
    out: Path | None,
    seeds: str | None,
    grid: Sequence[str],
    device: str,
) -> None:
    """Train every variant, and print their dev scores and folders."""
    from palate.config.variants import recipe_variants

    variants = recipe_variants(recipe, overrides, seeds, grid)
    place = out or Path("runs")
    from palate.training.variants import dev_sheet, train_variants

    folders = train_variants(variants, place, tell, progress=watched(), device=device)
    if sheet := dev_sheet(variants, folders):
        show_table(sheet)
    for folder in folders:
        show(str(folder))
