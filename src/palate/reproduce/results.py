"""Results of the tables: the paper's figures, ours, differences and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from pydantic import Field

from palate.data.dataset import load_dataset
from palate.reproduce.cell import CellResult
from palate.reproduce.cost import AnswerCost, TrainingCost
from palate.reproduce.history_scores import HistoryScore
from palate.reproduce.plan import Plan, Preset, Row, Triple, system_of
from palate.reproduce.references import ReferenceResult
from palate.schema import WindowKind
from palate.system.files import write_text
from palate.system.machine import Machine, checkout_commit, describe_machine, package_versions
from palate.system.records import Frozen, read_record

RESULTS = "results.json"
REFERENCE = "no size"
"""The size of a row that no language model answers."""


class Measured(Frozen):
    """Measurements of a system in one size: means over seeds where stated, else of the first seed."""

    seeds: int
    liked: Triple
    """Weighted precision, recall and F1 of the liked categories; the mean over seeds."""
    f1_interval: tuple[float, float]
    """95% bootstrap interval over users."""
    f1_deviation: float | None
    """Sample standard deviation of the F1 over seeds; None with one."""
    disliked_f1: float
    """The mean over seeds, like the next."""
    joint_f1: float
    per_category: dict[str, float]
    """F1 of each liked category."""
    by_history: tuple[HistoryScore, ...]
    controls: dict[str, float] = Field(default_factory=dict)
    """Liked F1 by what was wrong; the mean over seeds."""
    training: TrainingCost | None = None
    answer: AnswerCost | None = None
    parameters: int | None = None
    device: str | None = None
    """Where it was trained and asked."""


class ResultRow(Frozen):
    """A row: the paper's figures and ours, by size."""

    name: str
    window: int
    paper: dict[str, Triple]
    ours: dict[str, Measured]


class ResultTable(Frozen):
    """A table, and what is shown beside it."""

    title: str
    rows: tuple[ResultRow, ...]
    beside: tuple[ResultRow, ...]


class Results(Frozen):
    """Contents of ``results.json``."""

    format: int = 2
    preset: Preset
    dataset: str
    data_fingerprint: str
    data_checksums: dict[str, str]
    users: int
    categories: dict[str, int]
    """Test users who truly like each."""
    window_kind: WindowKind
    machine: Machine
    versions: dict[str, str]
    commit: str | None
    sizes: tuple[str, ...]
    tables: dict[str, ResultTable]


def gather(
    plan: Plan,
    found: Mapping[str, CellResult],
    references: Mapping[tuple[str, int], ReferenceResult],
    data: Path,
) -> Results:
    """Assemble the tables of a plan from the results of cells and references."""
    windows = {cell.system: cell.recipe.evaluate.window for cell in plan.cells}

    def shown(row: Row) -> ResultRow:
        if row.reference:
            ours = {REFERENCE: measured_reference(references[row.reference, row.window])}
            return ResultRow(name=row.name, window=row.window, paper=row.paper, ours=ours)
        system = system_of(row.changes)
        ours = {}
        for size in plan.sizes:
            cells = [cell for cell in plan.cells if (cell.system, cell.size) == (system, size)]
            if results := [found[cell.name] for cell in cells if cell.name in found]:
                ours[size] = measured(results)
        return ResultRow(name=row.name, window=windows.get(system, row.window), paper=row.paper, ours=ours)

    info = load_dataset(data).info
    asked = [one.scores for one in references.values()] + [one.scores for one in found.values()]
    return Results(
        preset=plan.preset,
        dataset=info.name,
        data_fingerprint=info.fingerprint,
        data_checksums=info.checksums,
        users=info.split_sizes["test"],
        categories={name: one.liked_users for name, one in asked[0].per_category.items()},
        window_kind=plan.window_kind,
        machine=describe_machine(),
        versions=package_versions(),
        commit=checkout_commit(),
        sizes=plan.sizes,
        tables={
            name: ResultTable(
                title=table.title,
                rows=tuple(map(shown, table.rows)),
                beside=tuple(map(shown, table.beside)),
            )
            for name, table in plan.tables.items()
        },
    )


def measured(results: Sequence[CellResult]) -> Measured:
    """One system's cells, which differ in the seed, as one."""
    first = results[0]
    liked = [result.scores.scores.liked for result in results]
    f1 = [one.f1.value for one in liked]
    return Measured(
        seeds=len(results),
        liked=(mean(one.precision.value for one in liked), mean(one.recall.value for one in liked), mean(f1)),
        f1_interval=(liked[0].f1.low, liked[0].f1.high),
        f1_deviation=stdev(f1) if len(f1) > 1 else None,
        disliked_f1=mean(result.scores.scores.disliked.f1.value for result in results),
        joint_f1=mean(result.scores.scores.joint.f1.value for result in results),
        per_category={name: one.liked_f1 for name, one in first.scores.per_category.items()},
        by_history=first.by_history,
        controls={
            name: mean(result.controls[name].scores.liked.f1.value for result in results)
            for name in first.controls
        },
        training=first.training,
        answer=first.answer,
        parameters=first.parameters,
        device=first.device,
    )


def measured_reference(result: ReferenceResult) -> Measured:
    """Summarise a reference's scores, without seeds and costs."""
    liked = result.scores.scores.liked
    return Measured(
        seeds=1,
        liked=(liked.precision.value, liked.recall.value, liked.f1.value),
        f1_interval=(liked.f1.low, liked.f1.high),
        f1_deviation=None,
        disliked_f1=result.scores.scores.disliked.f1.value,
        joint_f1=result.scores.scores.joint.f1.value,
        per_category={name: one.liked_f1 for name, one in result.scores.per_category.items()},
        by_history=result.by_history,
    )


def write_results(results: Results, path: Path) -> None:
    """Write ``results.json``, whole or not at all."""
    write_text(path, results.model_dump_json(indent=2) + "\n")


def read_results(path: Path) -> Results:
    """Read what :func:`write_results` wrote; raises :class:`DataError` when it is missing or damaged."""
    missing = "no results here; make them with 'palate reproduce'"
    return read_record(Results, path, missing, "make it again with 'palate reproduce'")
