"""The ``palate reproduce`` command: rebuilds the paper's tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from typer import Argument, BadParameter, Option

from palate.cli.console import show, tell, watched
from palate.cli.options import DeviceOption
from palate.errors import RecipeError
from palate.system.progress import counting_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from palate.config.recipe import Recipe
    from palate.report.sheet import Sheet

PresetName: TypeAlias = Literal["paper", "mini", "gemma", "gemma-cpu", "smoke"]
"""Those of :data:`palate.reproduce.plan.Preset`, without loading it."""


def reproduce(
    tables: Annotated[
        list[str],
        Argument(
            metavar="TABLE...",
            help="table1 to table4, figure2, all (of these), or rivals; or one of pepler, p5 and pod.",
        ),
    ],
    preset: Annotated[
        PresetName,
        Option(
            help="Models and sizes: the paper's, small ones for a CPU, Gemma 3 270M on a GPU or on one CPU core (both "
            "rivals only), or tiny ones to test the pipeline."
        ),
    ] = "mini",
    data: Annotated[Path | None, Option(help="The dataset; the preset's if not given.")] = None,
    out: Annotated[
        Path | None, Option(help="Folder for cells and results; runs/reproduce-PRESET if not given.")
    ] = None,
    seeds: Annotated[
        int, Option(help="Number of seeds for the rows of Table 1 and rivals; other rows have one.", min=1)
    ] = 2,
    jobs: Annotated[int, Option(help="Number of concurrent trainings.", min=1)] = 1,
    only: Annotated[str | None, Option(help="Only cells whose name contains this text.")] = None,
    window_kind: Annotated[
        Literal["recent", "random"] | None,
        Option(help="Interactions in a window, which the paper does not specify; the preset's if not given."),
    ] = None,
    processes: Annotated[
        int,
        Option(
            help="Number of data-parallel processes per cell, each on its own GPU; they share the batch.",
            min=1,
        ),
    ] = 1,
    device: DeviceOption = "auto",
    output: Annotated[
        Literal["path", "markdown", "latex"],
        Option("--format", help="Output at the end: the path of the page, or the tables."),
    ] = "path",
    dry_run: Annotated[bool, Option("--dry-run", help="Print each cell's estimated cost and exit.")] = False,
) -> None:
    """Rebuild the paper's tables: paper, ours, difference and cost.

    Run the same command again to resume: finished cells are skipped, interrupted ones continue.
    """
    if tables in (["pepler"], ["p5"], ["pod"]):
        if window_kind is not None or processes != 1:
            raise BadParameter(
                "--window-kind and --processes are options for the paper's tables; leave them out",
                param_hint="'TABLE...'",
            )
        _generative(tables[0], preset, data, out, seeds, jobs, only, device, output, dry_run)
        return
    from palate.reproduce.plan import make_plan

    plan = make_plan(tables, preset, data, seeds, window_kind)
    folder = out or Path(f"runs/reproduce-{preset}{f'-{window_kind}' if window_kind else ''}")
    cells = [cell for cell in plan.cells if only is None or only in cell.name]
    if not cells:
        raise RecipeError(f"--only {only!r}: no cell's name contains it; --dry-run lists all cells")
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
        from palate.reproduce.dry_run import described_cells

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
        references = folder / "references"
        asked = ask_references(plan.references, source, plan.window_kind, references, tell, jobs)
        gathered = gather(plan, results, asked, folder / "cells", source)
        documents = {"markdown": as_markdown(gathered), "latex": as_latex(gathered)}
        write_results(gathered, folder / RESULTS)
        write_text(folder / "results.md", documents["markdown"])
        write_text(folder / "results.tex", documents["latex"])
        write_results_page(gathered, folder / PAGE)
        show(documents.get(output, str(folder / PAGE)))


def _generative(
    table: str,
    preset: PresetName,
    data: Path | None,
    out: Path | None,
    seeds: int,
    jobs: int,
    only: str | None,
    device: str,
    output: str,
    dry_run: bool,
) -> None:
    """Rebuild the table of PEPLER, P5 or POD."""
    from palate.reproduce.engine import Measurement, run_cells
    from palate.reproduce.p5 import p5_cells, p5_measurement, write_p5_results
    from palate.reproduce.pepler import pepler_cells, pepler_measurement, write_pepler_results
    from palate.reproduce.places import Places
    from palate.reproduce.ready import dataset_at, missing_data
    from palate.system.locks import locked

    named: list[Any]
    measurement: Measurement[Any]
    write: Callable[..., list[Sheet]]
    if table == "pepler":
        named = list(pepler_cells(preset, () if data is None else [data], seeds))
        measurement, write = pepler_measurement(), write_pepler_results
    else:
        kind: Literal["p5", "pod"] = "p5" if table == "p5" else "pod"
        named, measurement, write = (
            list(p5_cells(kind, preset, data, seeds)),
            p5_measurement(preset),
            write_p5_results,
        )
    cells = [cell for cell in named if only is None or only in cell.name]
    if not cells:
        raise RecipeError(f"--only {only!r}: no cell's name contains it; --dry-run lists all cells")
    paths = list(dict.fromkeys(cell.recipe.data.path for cell in cells))
    if dry_run:
        for line in (*missing_data(paths), *(f"{one.name}: {_steps(one.recipe)}" for one in cells)):
            show(line)
        return
    places = Places.of(device, jobs)
    folder = out or Path(f"runs/reproduce-{table}-{preset}")
    for path in paths:
        dataset_at(path, tell)
    with locked(folder), counting_bar("training cells", watched()) as counted:
        results = run_cells(cells, folder / "cells", places, tell, counted, measurement)
        sheets = write([results[cell.name] for cell in cells], preset, folder)
    documents = {"markdown": [one.markdown() for one in sheets], "latex": [one.latex() for one in sheets]}
    show("\n".join(documents.get(output, [str(folder / "results.md")])))


def _steps(recipe: Recipe) -> str:
    """Tell how long a recipe trains."""
    if (pepler := recipe.pepler) is not None:
        return f"at most {pepler.language_steps + pepler.prompt_steps + pepler.tuning_steps:,} steps"
    assert recipe.generative is not None
    return f"{recipe.train.max_steps:,} steps, {', '.join(recipe.generative.families)}"
