"""Results of the tables: the paper's figures, ours, differences and costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from pydantic import Field

from palate.data.dataset import Dataset, load_dataset
from palate.errors import DataError
from palate.evaluation.evaluate import Evaluation, read_evaluation
from palate.evaluation.significance import SIGNIFICANT, holm
from palate.reproduce.answers import (
    ControlScore,
    GroupScores,
    HistoryScore,
    PairTest,
    SystemAnswers,
    compare_systems,
)
from palate.reproduce.cell import CellResult
from palate.reproduce.cost import AnswerCost, TrainingCost
from palate.reproduce.plan import FLOOR, Plan, Preset, Row, TableSpec, Triple, system_of
from palate.reproduce.references import ReferenceKey
from palate.schema import WindowKind
from palate.system.files import write_text
from palate.system.machine import Machine, checkout_commit, describe_machine, package_versions
from palate.system.records import Frozen, read_record

RESULTS = "results.json"
REFERENCE = "no size"
"""Size of a row without a language model."""
ANOTHER = "another user's history"
"""Control that tests whether a system has learned to read the user."""


class Measured(Frozen):
    """Measurements of a system in one size: means over seeds, and costs of the first seed."""

    seeds: tuple[int, ...]
    partly: GroupScores | None
    """Scores of the users with more interactions than the window; None if there are none."""
    whole: GroupScores | None
    """Scores of the other users, whose window is the full history."""
    everybody: GroupScores
    f1_deviation: float | None
    """Sample standard deviation of the liked F1 of all users over seeds; None with one seed."""
    per_category: dict[str, float]
    """F1 of each liked category."""
    by_history: tuple[HistoryScore, ...]
    floor: float | None = None
    """Liked F1 of labels drawn by their frequency, over the users of :attr:`controls`."""
    own: float = 0.0
    """Liked F1 over the users of the controls: those with more interactions than the window or, if none, all."""
    controls: dict[str, ControlScore] = Field(default_factory=dict)
    """Scores with a wrong history, by the name of the control."""
    training: TrainingCost | None = None
    answer: AnswerCost | None = None
    parameters: int | None = None
    device: str | None = None
    """Where it was trained and asked."""

    @property
    def liked(self) -> Triple:
        """Weighted precision, recall and F1 of the liked categories, over all users."""
        return _triple(self.everybody)

    @property
    def shown(self) -> GroupScores:
        """The main scores: of users with more interactions than the window or, if there are none, of all."""
        return self.partly or self.everybody

    @property
    def reads_the_user(self) -> bool | None:
        """Whether it scores higher with the user's own history than with another's; None without that control."""
        control = self.controls.get(ANOTHER)
        return None if control is None else self.own > control.f1 and control.p_value < SIGNIFICANT


class ResultRow(Frozen):
    """A row: the paper's figures and ours, by size."""

    name: str
    window: int
    paper: dict[str, Triple]
    ours: dict[str, Measured]


class ResultTable(Frozen):
    """Results of a table: its rows and comparisons."""

    title: str
    rows: tuple[ResultRow, ...]
    beside: tuple[ResultRow, ...]
    comparisons: dict[str, tuple[PairTest, ...]] = Field(default_factory=dict)
    """Tests of all pairs of rows, by size; p-values are corrected for all pairs of a size."""


class CellRecord(Frozen):
    """Provenance of a cell's results."""

    name: str
    seed: int
    commit: str | None
    recipe_digest: str
    data_fingerprint: str
    device: str | None
    steps: int


class Results(Frozen):
    """Contents of ``results.json``."""

    format: int = 3
    preset: Preset
    dataset: str
    data_fingerprint: str
    data_checksums: dict[str, str]
    users: int
    categories: dict[str, int]
    """Number of test users who like each category."""
    window_kind: WindowKind
    machine: Machine
    versions: dict[str, str]
    commit: str | None
    sizes: tuple[str, ...]
    tables: dict[str, ResultTable]
    cells: tuple[CellRecord, ...]


def gather(
    plan: Plan,
    found: Mapping[str, CellResult],
    references: Mapping[ReferenceKey, Evaluation],
    cells: Path,
    data: Path,
) -> Results:
    """Assemble the tables of a plan.

    Args:
        plan: The plan.
        found: Results of the finished cells.
        references: Answers of the references.
        cells: Parent of the cells' folders, which contain their answers.
        data: The dataset.

    Raises:
        DataError: A cell was measured on other data.
    """
    dataset = load_dataset(data)
    _check_data(found.values(), dataset)
    gathering = _Gathering(plan, found, references, cells, dataset)
    truth = next(iter(references.values())).predictors[0].per_category
    info = dataset.info
    return Results(
        preset=plan.preset,
        dataset=info.name,
        data_fingerprint=info.fingerprint,
        data_checksums=info.checksums,
        users=info.split_sizes["test"],
        categories={name: one.liked_users for name, one in truth.items()},
        window_kind=plan.window_kind,
        machine=describe_machine(),
        versions=package_versions(),
        commit=checkout_commit(),
        sizes=plan.sizes,
        tables={name: gathering.table(name, table) for name, table in plan.tables.items()},
        cells=tuple(_record(found[cell.name]) for cell in plan.cells if cell.name in found),
    )


class _Gathering:
    """Assembles rows, and caches the answers of each system."""

    def __init__(
        self,
        plan: Plan,
        found: Mapping[str, CellResult],
        references: Mapping[ReferenceKey, Evaluation],
        cells: Path,
        dataset: Dataset,
    ) -> None:
        self.plan, self.found, self.references, self.cells = plan, found, references, cells
        self.labels = dataset.categories
        lengths = dataset.interactions.lengths
        self.lengths = {dataset.user_ids[user]: int(lengths[user]) for user in dataset.users("test")}
        self._answers: dict[tuple[str, ...], SystemAnswers] = {}
        self._measured: dict[tuple[str, ...], Measured] = {}

    def table(self, name: str, table: TableSpec) -> ResultTable:
        seeds = self.plan.seeds_of(name)
        rows, beside = (tuple(self.row(row, seeds) for row in some) for some in (table.rows, table.beside))
        return ResultTable(
            title=table.title,
            rows=rows,
            beside=beside,
            comparisons=self._comparisons(table, rows + beside, seeds),
        )

    def row(self, row: Row, seeds: int) -> ResultRow:
        windows = {cell.system: cell.recipe.evaluate.window for cell in self.plan.cells}
        ours = {}
        for size in (REFERENCE,) if row.reference else self.plan.sizes:
            answers = self.answers(row, size, seeds)
            if answers is not None:
                ours[size] = self.measured(row, size, seeds, answers)
        window = windows.get(system_of(row.changes), row.window)
        return ResultRow(name=row.name, window=window, paper=row.paper, ours=ours)

    def answers(self, row: Row, size: str, seeds: int) -> SystemAnswers | None:
        """Return the answers of a row in one size; None if they do not exist."""
        key = self._key(row, size, seeds)
        if key not in self._answers:
            if row.reference:
                evaluations = [self.references[row.reference, row.window, seed] for seed in range(seeds)]
            else:
                evaluations = [read_evaluation(self.cells / one.cell) for one in self._cells(row, size)]
            if not evaluations:
                return None
            self._answers[key] = SystemAnswers.of(evaluations, self.labels, self.lengths)
        return self._answers[key]

    def measured(self, row: Row, size: str, seeds: int, answers: SystemAnswers) -> Measured:
        key = self._key(row, size, seeds)
        if key not in self._measured:
            cells = [] if row.reference else self._cells(row, size)
            self._measured[key] = measured(answers, cells, self.labels, self._floor(answers))
        return self._measured[key]

    def _cells(self, row: Row, size: str) -> list[CellResult]:
        wanted = system_of(row.changes), size
        names = [cell.name for cell in self.plan.cells if (cell.system, cell.size) == wanted]
        return [self.found[name] for name in names if name in self.found]

    def _floor(self, answers: SystemAnswers) -> float | None:
        """Score labels drawn by frequency, over the users of the controls."""
        drawn = [
            one
            for (name, window, _), one in self.references.items()
            if (name, window) == (FLOOR, answers.window)
        ]
        if not drawn:
            return None
        return controlled(SystemAnswers.of(drawn, self.labels, self.lengths)).mean_f1()

    def _comparisons(
        self, table: TableSpec, rows: Sequence[ResultRow], seeds: int
    ) -> dict[str, tuple[PairTest, ...]]:
        found = {}
        for size in self.plan.sizes:
            several = {
                row.name: answers
                for row in table.rows + table.beside
                if (answers := self.answers(row, REFERENCE if row.reference else size, seeds)) is not None
            }
            if any(size in row.ours for row in rows):
                found[size] = tuple(tested_rows(several))
        return found

    def _key(self, row: Row, size: str, seeds: int) -> tuple[str, ...]:
        if row.reference:
            return row.reference, str(row.window), str(seeds)
        return system_of(row.changes), size


def tested_rows(answers: Mapping[str, SystemAnswers]) -> Iterable[PairTest]:
    """Compare all pairs of rows, with Holm's correction."""
    pairs = [
        (first, second, compared)
        for first, second in combinations(answers, 2)
        if (compared := compare_systems(answers[first], answers[second])) is not None
    ]
    corrected = holm([p_value for _, _, (_, _, p_value) in pairs])
    for (first, second, (users, difference, p_value)), level in zip(pairs, corrected, strict=True):
        yield PairTest(
            first=first,
            second=second,
            users=users,
            difference=difference,
            p_value=p_value,
            corrected=level,
        )


def measured(
    answers: SystemAnswers, cells: Sequence[CellResult], labels: Sequence[str], floor: float | None = None
) -> Measured:
    """Summarise one system's answers over its trainings, and the costs of the first; a reference has no cells."""
    everybody = answers.scores(answers.partly | ~answers.partly)
    assert everybody is not None, "a split without users is not measured"
    judged = controlled(answers)
    first = cells[0] if cells else None
    return Measured(
        seeds=tuple(one.seed for one in cells) or tuple(range(len(answers.named))),
        partly=answers.scores(answers.partly),
        whole=answers.scores(~answers.partly),
        everybody=everybody,
        f1_deviation=answers.deviation(),
        per_category=dict(zip(labels, answers.per_label().tolist(), strict=True)),
        by_history=answers.by_history(),
        floor=floor,
        own=judged.mean_f1(),
        controls=judged.controls(),
        training=first and first.training,
        answer=first and first.answer,
        parameters=first and first.parameters,
        device=first and first.device,
    )


def controlled(answers: SystemAnswers) -> SystemAnswers:
    """Select the users of the controls: those with more interactions than the window or, if there are none, all."""
    return answers.of_users(answers.partly) if answers.partly.any() else answers


def write_results(results: Results, path: Path) -> None:
    """Write ``results.json`` atomically."""
    write_text(path, results.model_dump_json(indent=2) + "\n")


def read_results(path: Path) -> Results:
    """Read the results of :func:`write_results`; raises :class:`DataError` if they are missing or damaged."""
    missing = "no results here; make them with 'palate reproduce'"
    return read_record(Results, path, missing, "make it again with 'palate reproduce'")


def _check_data(cells: Iterable[CellResult], dataset: Dataset) -> None:
    for one in cells:
        if one.data_fingerprint != dataset.info.fingerprint:
            raise DataError(
                f"cell {one.cell} was measured on {one.data_fingerprint[:19]}, and {dataset.info.name} is "
                f"{dataset.info.fingerprint[:19]}; name a new folder with --out",
                dataset.path,
            )


def _record(cell: CellResult) -> CellRecord:
    return CellRecord(
        name=cell.cell,
        seed=cell.seed,
        commit=cell.commit,
        recipe_digest=cell.recipe_digest,
        data_fingerprint=cell.data_fingerprint,
        device=cell.device,
        steps=cell.training.steps,
    )


def _triple(scores: GroupScores) -> Triple:
    return scores.liked.precision.value, scores.liked.recall.value, scores.liked.f1.value
