"""``palate reproduce pepler``: trains PEPLER's systems on data with reviews, and puts published numbers beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from palate.config.load import Layer, differing_keys, load_recipe, recipe_from
from palate.config.recipe import Recipe
from palate.config.yaml_file import read_yaml
from palate.data.dataset import load_dataset
from palate.errors import OutputError, RecipeError, faults
from palate.generative.pepler_files import load_pepler
from palate.generative.pepler_scores import PeplerScores
from palate.ranking.explanation_tables import pepler_sheet
from palate.ranking.explanations import score_held_out
from palate.report.sheet import Sheet
from palate.reproduce.plan import HERE, Preset
from palate.system.files import write_text
from palate.system.records import Frozen, read_record
from palate.training.start import train_recipe

PEPLER = "pepler"
"""What the tables are called on the command line."""
RECIPE, RUN, RESULT, TEXTS = "recipe.yaml", "run", "result.json", "texts.jsonl"
PUBLISHED = (
    "Published numbers are of TripAdvisor, which cannot be had: read them as an order of systems, never as a target. "
    "Published MF predicts ratings from vectors near zero, without the mean: its RMSE of 1.563 is above a constant's."
)


class _System(Frozen):
    title: str
    pepler: dict[str, Any]


class _PresetOfPepler(Frozen):
    data: dict[str, Path]
    rated: dict[str, Path]
    """Data without reviews, where only ratings are predicted."""
    recipe: dict[str, Any]
    ratings: dict[str, Any]


class _Spec(Frozen):
    published: dict[str, tuple[float | None, ...]]
    systems: dict[str, _System]
    presets: dict[Preset, _PresetOfPepler]


class PeplerCellResult(Frozen):
    """Contents of ``result.json`` of a finished cell; the references of its data are beside its own scores."""

    format: int = 1
    cell: str
    system: str
    data: str
    seed: int
    scores: tuple[PeplerScores, ...]
    data_fingerprint: str


@dataclass(frozen=True)
class PeplerCell:
    """A system on a dataset with a seed."""

    name: str
    system: str
    title: str
    data: str
    recipe: Recipe


class PeplerResults(Frozen):
    """Contents of ``results.json``."""

    preset: Preset
    cells: tuple[PeplerCellResult, ...] = Field(default_factory=tuple)


def pepler_cells(preset: Preset, data: Sequence[Path] = (), seeds: int = 1) -> list[PeplerCell]:
    """List the cells of a preset.

    Args:
        preset: The preset.
        data: Datasets, named by their folders; the preset's if empty.
        seeds: Number of seeds of each system.

    Returns:
        The cells, dataset by dataset.
    """
    spec = _spec()
    wanted = spec.presets[preset]
    reviewed, rated = wanted.data, wanted.rated
    if data:
        told = {path: load_dataset(path).info.reviewed_interactions > 0 for path in data}
        reviewed, rated = ({path.name: path for path in data if told[path] is kind} for kind in (True, False))
    rating = [name for name, one in spec.systems.items() if one.pepler["rating"] != "none"]
    return [
        _cell(spec, recipe, system, name, path, seed)
        for places, systems, recipe in (
            (reviewed, list(spec.systems), wanted.recipe),
            (rated, rating, wanted.ratings),
        )
        for name, path in places.items()
        for seed in range(seeds)
        for system in systems
    ]


def reproduce_pepler(
    cells: Sequence[PeplerCell],
    preset: Preset,
    out: Path,
    tell: Callable[[str], None],
    device: str = "auto",
    counted: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sheet]:
    """Train and score all cells, one after the other, and write the results; finished cells are skipped.

    Args:
        cells: The cells.
        preset: Their preset.
        out: Folder of cells and results.
        tell: Told of each evaluation and cell.
        device: Where models are trained.
        counted: Told how many of all cells are done.

    Returns:
        A table for each dataset.

    Raises:
        OutputError: A cell's folder holds another recipe; before any work.
        DataError: A dataset cannot be read; likewise.
    """
    for path in {cell.recipe.data.path for cell in cells}:
        load_dataset(path)
    for cell in cells:
        _open_cell(cell, out / "cells" / cell.name)
    results = []
    for cell in cells:
        results.append(_result(cell, out / "cells" / cell.name, tell, device))
        counted(len(results), len(cells))
    write_text(
        out / "results.json",
        PeplerResults(preset=preset, cells=tuple(results)).model_dump_json(indent=2) + "\n",
    )
    sheets = pepler_sheets(results)
    write_text(out / "results.md", "\n".join(sheet.markdown() for sheet in sheets))
    write_text(out / "results.tex", "\n".join(sheet.latex() for sheet in sheets))
    return sheets


def pepler_sheets(results: Sequence[PeplerCellResult]) -> list[Sheet]:
    """Make a table for each dataset, and one of the published numbers."""
    spec = _spec()
    published = Sheet(
        "PEPLER as published: TripAdvisor, fold 1",
        pepler_sheet([], "").head,
        [[_title(spec, name), *_published(row)] for name, row in spec.published.items()],
        PUBLISHED,
    )
    sheets = [published]
    for data in dict.fromkeys(one.data for one in results):
        of_data = [one for one in results if one.data == data]
        several = len({one.seed for one in of_data}) > 1
        rows = [
            one.scores[0].model_copy(
                update={"name": _title(spec, one.system) + (f", seed {one.seed}" if several else "")}
            )
            for one in of_data
        ]
        rows += of_data[0].scores[1:]
        sheets.append(pepler_sheet(rows, f"PEPLER, {data}: held-out interactions"))
    return sheets


def _published(row: Sequence[float | None]) -> list[str]:
    return ["" if one is None else f"{one:g}" for one in row]


def _title(spec: _Spec, system: str) -> str:
    return spec.systems[system].title if system in spec.systems else system


def _cell(spec: _Spec, recipe: dict[str, Any], system: str, data: str, path: Path, seed: int) -> PeplerCell:
    name = f"{system}-{data}-seed{seed}"
    layers = [
        Layer("the preset's recipe", recipe),
        Layer(f"the system {system}", {PEPLER: dict(spec.systems[system].pepler)}),
        Layer(f"the cell {name}", {"name": name, "seed": seed, "data": {"path": path}}),
    ]
    return PeplerCell(name, system, spec.systems[system].title, data, recipe_from(layers))


def _open_cell(cell: PeplerCell, folder: Path) -> None:
    """Check that a cell's folder is free, or holds a run of the same recipe."""
    path = folder / RUN / RECIPE
    if path.is_file():
        keys = [key for key in differing_keys(load_recipe(path), cell.recipe) if not key.endswith("path")]
        if keys:
            raise OutputError(
                f"{folder} holds a cell of another recipe (differs in {', '.join(keys[:5])}); name a new folder"
            )


def _result(cell: PeplerCell, folder: Path, tell: Callable[[str], None], device: str) -> PeplerCellResult:
    path = folder / RESULT
    if path.is_file():
        return read_record(
            PeplerCellResult, path, "the file is missing", "remove it, and the cell is scored again"
        )
    tell(f"cell {cell.name}")
    run = train_recipe(cell.recipe, folder / RUN, tell, device=device)
    trained = load_pepler(run)
    found = score_held_out(trained, run, "test", cell.recipe.data.path)
    write_text(folder / TEXTS, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found.answers))
    result = PeplerCellResult(
        cell=cell.name,
        system=cell.system,
        data=cell.data,
        seed=cell.recipe.seed,
        scores=tuple(found.scores),
        data_fingerprint=trained.record.data_fingerprint,
    )
    write_text(path, result.model_dump_json(indent=2) + "\n")
    return result


def _spec() -> _Spec:
    path = HERE / "pepler.yaml"
    content: Mapping[str, Any] = read_yaml(path)
    try:
        return _Spec.model_validate(dict(content))
    except ValidationError as error:
        raise RecipeError(f"{path}: {faults(error)}") from error
