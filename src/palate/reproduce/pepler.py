"""``palate reproduce pepler``: trains PEPLER's systems on data with reviews, and adds published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from palate.config.load import Layer, load_recipe, recipe_from
from palate.config.recipe import Recipe
from palate.config.yaml_file import read_yaml
from palate.data.dataset import load_dataset
from palate.errors import RecipeError, faults
from palate.generative.pepler_files import load_pepler
from palate.generative.pepler_scores import PeplerScores
from palate.ranking.explanation_tables import pepler_sheet
from palate.ranking.explanations import score_held_out
from palate.report.sheet import Sheet
from palate.reproduce.cell import RECIPE, RESULT, RUN, training_minutes
from palate.reproduce.engine import Measurement
from palate.reproduce.plan import HERE, Preset, preset_of
from palate.reproduce.scored import read_scored, write_scored
from palate.system.device import find_device
from palate.system.files import write_json_lines, write_text
from palate.system.records import Frozen

PEPLER = "pepler"
"""Name of the tables on the command line."""
TEXTS = "texts.jsonl"
PUBLISHED = (
    "Published numbers are for TripAdvisor, which is not available: only the order of the systems can be compared. "
    "Published MF predicts ratings from vectors near zero, without the mean: its RMSE of 1.563 is above a constant's."
)


class _System(Frozen):
    title: str
    pepler: dict[str, Any]


class _PresetOfPepler(Frozen):
    data: dict[str, Path]
    rated: dict[str, Path]
    """Datasets without reviews, for ratings only."""
    recipe: dict[str, Any]
    ratings: dict[str, Any]


class _Spec(Frozen):
    published: dict[str, tuple[float | None, ...]]
    systems: dict[str, _System]
    presets: dict[Preset, _PresetOfPepler]


class PeplerCellResult(Frozen):
    """Contents of ``result.json`` of a finished cell: its own scores, and those of references on its data."""

    format: int = 1
    cell: str
    system: str
    data: str
    seed: int
    scores: tuple[PeplerScores, ...]
    minutes: float
    """Processor time of the training."""
    data_fingerprint: str


@dataclass(frozen=True)
class PeplerCell:
    """A system on a dataset with a seed."""

    name: str
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
    wanted = preset_of(spec.presets, preset, "pepler")
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


def measure_pepler(folder: Path, device: str = "auto") -> None:
    """Score a trained cell on its held-out interactions, and write ``result.json`` and the texts."""
    recipe, run = load_recipe(folder / RECIPE), folder / RUN
    trained = load_pepler(run)
    trained.model.to(find_device(device))
    found = score_held_out(trained, run, "test", recipe.data.path)
    write_json_lines(folder / TEXTS, found.answers)
    result = PeplerCellResult(
        cell=folder.name,
        system=_system_of(recipe),
        data=recipe.data.path.name,
        seed=recipe.seed,
        scores=tuple(found.scores),
        data_fingerprint=trained.record.data_fingerprint,
        minutes=training_minutes(folder),
    )
    write_text(folder / RESULT, result.model_dump_json(indent=2) + "\n")


def read_pepler(folder: Path) -> PeplerCellResult | None:
    """Load the result of a cell; None if unfinished. Raises :class:`DataError` if it is damaged."""
    return read_scored(PeplerCellResult, folder)


def pepler_measurement() -> Measurement[PeplerCellResult]:
    """Return how PEPLER's cells are measured."""
    return Measurement(measure_pepler, read_pepler, _told)


def write_pepler_results(results: Sequence[PeplerCellResult], preset: Preset, out: Path) -> list[Sheet]:
    """Write results and tables, and return the tables: one for each dataset, and one of the published numbers."""
    sheets = pepler_sheets(results)
    write_scored(PeplerResults(preset=preset, cells=tuple(results)), sheets, out)
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
    return PeplerCell(name, recipe_from(layers))


def _system_of(recipe: Recipe) -> str:
    """Find the system that a recipe trains."""
    assert recipe.pepler is not None
    settings = recipe.pepler.model_dump()
    return next(
        name
        for name, one in _spec().systems.items()
        if all(settings[key] == value for key, value in one.pepler.items())
    )


def _told(one: PeplerCellResult) -> str:
    own, said = one.scores[0], []
    if own.texts is not None:
        said.append(f"BLEU-4 {own.texts.bleu4.value:.2f}")
    if own.ratings is not None:
        said.append(f"RMSE {own.ratings.rmse.value:.3f}")
    return f"{', '.join(said)}; {one.minutes:.1f} processor minutes"


def _spec() -> _Spec:
    path = HERE / "pepler.yaml"
    content: Mapping[str, Any] = read_yaml(path)
    try:
        return _Spec.model_validate(dict(content))
    except ValidationError as error:
        raise RecipeError(f"{path}: {faults(error)}") from error
