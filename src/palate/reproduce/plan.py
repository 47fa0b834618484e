"""The plan of tables: their rows, and the cells to train, each a preset with named changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import Field, ValidationError

from palate.config.load import Layer, recipe_from
from palate.config.recipe import Recipe
from palate.config.yaml_file import read_yaml
from palate.errors import RecipeError, faults
from palate.schema import WindowKind
from palate.system.records import Frozen

HERE = Path(__file__).parent
TABLES = ("table1", "table2", "table3", "table4")
FLOOR = "floor"
"""Reference that controls are compared with."""
RIVALS = "rivals"
"""A table that the paper does not have, and that is not part of ``all``."""
SEVERAL = ("table1", RIVALS)
"""Tables whose rows are trained with several seeds."""
FIGURE = "figure2"
"""Drawn from Table 4."""
Preset: TypeAlias = Literal["paper", "mini", "gemma", "gemma-cpu", "smoke"]
Triple: TypeAlias = tuple[float, float, float]
"""Weighted precision, recall and F1."""


class Row(Frozen):
    """A row of a table: a reference, or a system that is trained in each size."""

    name: str
    reference: str | None = None
    window: int = 50
    """Window size of a reference; that of a system is in its changes."""
    changes: tuple[str, ...] = ()
    paper: dict[str, Triple] = Field(default_factory=dict)
    """The paper's figures by size."""


class TableSpec(Frozen):
    """A table of the paper, and additional rows."""

    title: str
    rows: tuple[Row, ...]
    beside: tuple[Row, ...] = ()


class PresetSpec(Frozen):
    """A preset: settings by names of changes and of sizes."""

    data: Path
    recipe: dict[str, Any]
    sizes: dict[str, dict[str, dict[str, Any]]]
    changes: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """A system of one size and seed, the unit of training and evaluation."""

    name: str
    """Name of the folder, such as ``uem-items-50-base-seed0``."""
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
    seeds: int = 1

    @property
    def window_kind(self) -> WindowKind:
        """Kind of windows of all systems."""
        return self.cells[0].recipe.windows.kind

    @property
    def references(self) -> list[tuple[str, int, int]]:
        """References by name, window and seed: those of the rows, and the floor at every window."""
        asked = [
            (row.reference, row.window, seed)
            for name, table in self.tables.items()
            for row in table.rows + table.beside
            for seed in range(self.seeds_of(name))
            if row.reference
        ]
        windows = {cell.recipe.evaluate.window for cell in self.cells} | {window for _, window, _ in asked}
        every = [(FLOOR, window, seed) for window in sorted(windows) for seed in range(self.seeds)]
        return list(dict.fromkeys(asked + every))

    def seeds_of(self, table: str) -> int:
        """Return the number of seeds of a table's rows: several in Table 1 and that of the rivals only."""
        return self.seeds if table in SEVERAL else 1

    def rows(self) -> Iterable[Row]:
        """All rows, including the additional ones."""
        for table in self.tables.values():
            yield from table.rows + table.beside


Made = TypeVar("Made")


def preset_of(presets: Mapping[Preset, Made], preset: Preset, table: str) -> Made:
    """Return a table's settings of a preset; raises :class:`RecipeError` if the table has none."""
    if preset not in presets:
        raise RecipeError(f"--preset {preset}: {table} has no such preset; choose from {', '.join(presets)}")
    return presets[preset]


def make_plan(
    wanted: Sequence[str],
    preset: Preset,
    data: Path | None = None,
    seeds: int = 1,
    window_kind: WindowKind | None = None,
) -> Plan:
    """Create the plan of tables.

    A row whose system is not in the preset, such as one with a pretrained model, has no cells.

    Args:
        wanted: Names of tables; also ``all``, which are the paper's, ``figure2`` and ``rivals``.
        preset: The preset.
        data: The dataset; the preset's if None.
        seeds: Seeds of the rows of Table 1 and of the rivals; all others have one.
        window_kind: Kind of windows of all systems, which the paper does not state; the preset's if None.

    Raises:
        RecipeError: A name is unknown.
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
                if seed and (name not in SEVERAL or row in table.beside):
                    continue
                layers = _layers(spec, common, row.changes, size)
                if layers is not None:
                    if window_kind is not None:
                        layers.append(Layer("--window-kind", {"windows": {"kind": window_kind}}))
                    cell = _cell(layers, row.changes, size, seed, data or spec.data)
                    cells.setdefault(cell.name, cell)
    if not cells:
        raise RecipeError(
            f"--preset {preset}: it trains no row of {', '.join(tables)}; ask for another table, or choose another "
            "preset"
        )
    return Plan(preset, tables, tuple(spec.sizes), tuple(cells.values()), seeds)


def system_of(changes: Sequence[str]) -> str:
    """Return the name of a row's system among the cells."""
    return "-".join(changes)


def _tables(wanted: Sequence[str]) -> dict[str, TableSpec]:
    known = [*TABLES, FIGURE, RIVALS, "all"]
    if unknown := [name for name in wanted if name not in known]:
        raise RecipeError(f"there is no {unknown[0]!r} in the paper; choose from {', '.join(known)}")
    names = {"table4" if name == FIGURE else name for name in wanted}
    content = read_yaml(HERE / "tables.yaml")
    return {
        name: TableSpec.model_validate(content[name])
        for name in (*TABLES, RIVALS)
        if name in names or (name in TABLES and "all" in names)
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
