"""``palate reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from palate.cli.console import show, tell
from palate.errors import RecipeError


def reproduce(
    tables: Annotated[list[str], Argument(metavar="TABLE...", help="table1 to table4, figure2, or all.")],
    preset: Annotated[
        Literal["paper", "mini", "smoke"],
        Option(
            help="The paper's models and sizes; small ones for a CPU; or tiny ones, to see that all works."
        ),
    ] = "mini",
    data: Annotated[Path | None, Option(help="The dataset; the preset's if not given.")] = None,
    out: Annotated[Path | None, Option(help="Folder of cells and results; runs/reproduce-PRESET.")] = None,
    seeds: Annotated[int, Option(help="Seeds for Table 1; the other tables have one.", min=1)] = 2,
    jobs: Annotated[int, Option(help="Cells trained at a time.", min=1)] = 1,
    only: Annotated[str | None, Option(help="Only cells whose name holds this.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say which cells there are, and stop.")] = False,
) -> None:
    """Rebuild the paper's tables: paper, ours, difference, and the cost.

    Cells that are finished are skipped and interrupted ones go on, so the same command can be started again.
    """
    from palate.reproduce.engine import run_cells
    from palate.reproduce.markdown import as_markdown
    from palate.reproduce.plan import make_plan
    from palate.reproduce.results import RESULTS, gather, write_results

    plan = make_plan(tables, preset, data, seeds)
    folder = out or Path(f"runs/reproduce-{preset}")
    cells = [cell for cell in plan.cells if only is None or only in cell.name]
    if not cells:
        raise RecipeError(f"no cell's name holds {only!r}; --dry-run shows them all")
    if dry_run:
        for cell in cells:
            train = cell.recipe.train
            limit = f"at most {train.minutes:g} minutes" if train.minutes else f"{train.steps:,} steps"
            show(f"{cell.name}: {limit}, batches of {train.batch_size * train.accumulate}")
        minutes = [cell.recipe.train.minutes for cell in cells]
        if all(minutes):
            show(
                f"{len(cells)} cells, about {sum(one or 0 for one in minutes) / jobs:,.0f} minutes of training"
            )
        return
    results = run_cells(cells, folder / "cells", jobs, tell)
    gathered = gather(plan, results, cells[0].recipe.data.path)
    write_results(gathered, folder / RESULTS)
    document = folder / "results.md"
    document.write_text(as_markdown(gathered), encoding="utf-8")
    show(str(document))
