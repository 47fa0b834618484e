"""Plan of tables: rows, and the cells to train, as changes of a preset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from palate.config.load import Layer, recipe_from
from palate.config.recipe import Recipe
from palate.config.yaml_file import read_yaml
from palate.errors import RecipeError, faults
from palate.schema import WindowKind
from palate.system.records import Frozen

HERE = Path(__file__).parent
TABLES = ("table1", "table2", "table3", "table4")
FIGURE = "figure2"
"""Drawn from Table 4."""
Preset: TypeAlias = Literal["paper", "mini", "smoke"]
Triple: TypeAlias = tuple[float, float, float]
"""Weighted precision, recall and F1."""


class Row(Frozen):
    """A row of a table: a reference, or a system that is trained in every size."""

    name: str
    reference: str | None = None
    window: int = 50
    """Of a reference; a system's is in its changes."""
    changes: tuple[str, ...] = ()
    paper: dict[str, Triple] = Field(default_factory=dict)
    """The paper's figures by size."""


class TableSpec(Frozen):
    """A table of the paper, and what is shown beside it."""

    title: str
    rows: tuple[Row, ...]
    beside: tuple[Row, ...] = ()


class PresetSpec(Frozen):
    """A preset: settings by the name of a change and of a size."""

    data: Path
    recipe: dict[str, Any]
    sizes: dict[str, dict[str, dict[str, Any]]]
    changes: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """A system of one size and seed, the unit of training and evaluation."""

    name: str
    """Its folder: ``uem-items-50-base-seed0``."""
    system: str
    size: str
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """The requested tables, and the cells that they need, each once."""

    preset: Preset
    tables: dict[str, TableSpec]
    sizes: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def window_kind(self) -> WindowKind:
        """Which interactions everybody sees."""
        return self.cells[0].recipe.windows.kind

    @property
    def references(self) -> list[tuple[str, int]]:
        """The references that have a row, each with its window."""
        return [(row.reference, row.window) for row in self.rows() if row.reference]

    def rows(self) -> Iterable[Row]:
        """All rows, those beside the tables too."""
        for table in self.tables.values():
            yield from table.rows + table.beside


def make_plan(wanted: Sequence[str], preset: Preset, data: Path | None = None, seeds: int = 1) -> Plan:
    """Create the plan of tables, by name; also ``all`` and ``figure2``.

    A row whose system a preset does not know, as one that needs a pretrained model, has no cells. The rows of Table 1
    are trained with ``seeds`` seeds, all others with one. Raises :class:`RecipeError` for an unknown name.
    """
    tables = _tables(wanted)
    spec = _read(PresetSpec, HERE / "presets" / f"{preset}.yaml")
    common: dict[str, dict[str, Any]] = dict(read_yaml(HERE / "changes.yaml"))
    cells: dict[str, Cell] = {}
    for name, table in tables.items():
        for row in table.rows + table.beside:
            if not row.changes:
                continue
            for size, seed in ((size, seed) for size in spec.sizes for seed in range(seeds)):
                if seed and (name != "table1" or row in table.beside):
                    continue
                layers = _layers(spec, common, row.changes, size)
                if layers is not None:
                    cell = _cell(layers, row.changes, size, seed, data or spec.data)
                    cells.setdefault(cell.name, cell)
    return Plan(preset, tables, tuple(spec.sizes), tuple(cells.values()))


def system_of(changes: Sequence[str]) -> str:
    """Return the name of a row's system among the cells."""
    return "-".join(changes)


def _tables(wanted: Sequence[str]) -> dict[str, TableSpec]:
    known = [*TABLES, FIGURE, "all"]
    if unknown := [name for name in wanted if name not in known]:
        raise RecipeError(f"there is no {unknown[0]!r} in the paper; choose from {', '.join(known)}")
    names = {"table4" if name == FIGURE else name for name in wanted}
    content = read_yaml(HERE / "tables.yaml")
    return {
        name: TableSpec.model_validate(content[name]) for name in TABLES if name in names or "all" in names
    }


def _layers(
    spec: PresetSpec, common: dict[str, dict[str, Any]], changes: Sequence[str], size: str
) -> list[Layer] | None:
    """List the settings of a system's recipe; None if the preset does not have it."""
    backbones = spec.sizes[size]
    layers = [Layer("the preset's recipe", spec.recipe), Layer(f"the size {size}", backbones["default"])]
    for name in changes:
        known = [settings[name] for settings in (spec.changes, backbones, common) if name in settings]
        if not known:
            return None
        layers.append(Layer(f"the change {name}", known[0]))
    return layers


def _cell(layers: Sequence[Layer], changes: Sequence[str], size: str, seed: int, data: Path) -> Cell:
    system = system_of(changes)
    name = f"{system}-{size}-seed{seed}"
    own = {"name": f"{system}-{size}", "seed": seed, "data": {"path": data}}
    return Cell(name, system, size, recipe_from([*layers, Layer(f"the cell {name}", own)]))


def _read(model: type[PresetSpec], path: Path) -> PresetSpec:
    try:
        return model.model_validate(dict(read_yaml(path)))
    except ValidationError as error:
        raise RecipeError(f"{path}: {faults(error)}") from error
