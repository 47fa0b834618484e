"""``palate reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from palate.cli.console import show, tell, watched
from palate.cli.options import DeviceOption
from palate.errors import RecipeError
from palate.system.progress import counting_bar


def reproduce(
    tables: Annotated[
        list[str],
        Argument(
            metavar="TABLE...", help="table1 to table4, figure2, all of these, or rivals; or pepler alone."
        ),
    ],
    preset: Annotated[
        Literal["paper", "mini", "smoke"],
        Option(help="The paper's models and sizes, small ones for a CPU, or tiny ones to test the pipeline."),
    ] = "mini",
    data: Annotated[Path | None, Option(help="The dataset; the preset's if not given.")] = None,
    out: Annotated[Path | None, Option(help="Folder of cells and results; runs/reproduce-PRESET.")] = None,
    seeds: Annotated[
        int, Option(help="Seeds for the rows of Table 1 and rivals; all others have one.", min=1)
    ] = 2,
    jobs: Annotated[int, Option(help="Number of concurrent trainings.", min=1)] = 1,
    only: Annotated[str | None, Option(help="Only cells whose name contains this.")] = None,
    window_kind: Annotated[
        Literal["recent", "random"] | None,
        Option(
            help="Interactions that everybody sees, on which the paper is silent; the preset's if not given."
        ),
    ] = None,
    processes: Annotated[
        int,
        Option(
            help="Processes that train a cell together and share its batch, each on a GPU of its own.", min=1
        ),
    ] = 1,
    device: DeviceOption = "auto",
    output: Annotated[
        Literal["path", "markdown", "latex"],
        Option("--format", help="What is printed when it is done: the page's path, or the tables."),
    ] = "path",
    dry_run: Annotated[bool, Option("--dry-run", help="Print each cell's estimated cost, and stop.")] = False,
) -> None:
    """Rebuild the paper's tables: paper, ours, difference, and the cost.

    Cells that are finished are skipped and interrupted ones go on, so the same command can be started again.
    """
    if tables == ["pepler"]:
        _pepler(preset, data, out, seeds, only, device, output, dry_run)
        return
    from palate.reproduce.plan import make_plan

    plan = make_plan(tables, preset, data, seeds, window_kind)
    folder = out or Path(f"runs/reproduce-{preset}{f'-{window_kind}' if window_kind else ''}")
    cells = [cell for cell in plan.cells if only is None or only in cell.name]
    if not cells:
        raise RecipeError(f"no cell's name holds {only!r}; --dry-run shows them all")
    from palate.reproduce.dry_run import described_cells
    from palate.reproduce.engine import run_cells
    from palate.reproduce.markdown import as_latex, as_markdown
    from palate.reproduce.page import PAGE, write_results_page
    from palate.reproduce.places import Places
    from palate.reproduce.ready import make_ready
    from palate.reproduce.references import ask_references
    from palate.reproduce.results import RESULTS, gather, write_results
    from palate.system.device import describe_device, find_device
    from palate.system.files import remove_leftovers, write_text
    from palate.system.locks import locked

    place = find_device(device)
    places = Places.of(device, jobs, processes)
    for cell in cells:
        places.check(cell.recipe.train)
    if dry_run:
        for line in described_cells(preset, cells, places, place):
            show(line)
        return
    with locked(folder):
        make_ready(cells, tell)
        tell(f"computing on {describe_device(place)}")
        for made in (folder, folder / "references"):
            remove_leftovers(made)
        with counting_bar("training cells", watched()) as counted:
            results = run_cells(cells, folder / "cells", places, tell, counted)
        source = cells[0].recipe.data.path
        asked = ask_references(plan.references, source, plan.window_kind, folder / "references", tell)
        gathered = gather(plan, results, asked, folder / "cells", source)
        documents = {"markdown": as_markdown(gathered), "latex": as_latex(gathered)}
        write_results(gathered, folder / RESULTS)
        write_text(folder / "results.md", documents["markdown"])
        write_text(folder / "results.tex", documents["latex"])
        write_results_page(gathered, folder / PAGE)
        show(documents.get(output, str(folder / PAGE)))


def _pepler(
    preset: Literal["paper", "mini", "smoke"],
    data: Path | None,
    out: Path | None,
    seeds: int,
    only: str | None,
    device: str,
    output: str,
    dry_run: bool,
) -> None:
    from palate.reproduce.pepler import pepler_cells, reproduce_pepler
    from palate.system.locks import locked

    named = pepler_cells(preset, () if data is None else [data], seeds)
    cells = [cell for cell in named if only is None or only in cell.name]
    if not cells:
        raise RecipeError(f"no cell's name holds {only!r}; --dry-run shows them all")
    if dry_run:
        for cell in cells:
            show(cell.name)
        return
    folder = out or Path(f"runs/reproduce-pepler-{preset}")
    with locked(folder), counting_bar("training cells", watched()) as counted:
        sheets = reproduce_pepler(cells, preset, folder, tell, device, counted)
    documents = {"markdown": [one.markdown() for one in sheets], "latex": [one.latex() for one in sheets]}
    show("\n".join(documents.get(output, [str(folder / "results.md")])))
