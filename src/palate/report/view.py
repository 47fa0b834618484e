"""View model of the report's template: groups of rows, colours, correct and wrong categories, charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from palate.report.data import (
    ExampleAnswer,
    ExampleUser,
    LengthLine,
    PredictorKind,
    ReportData,
    ScoreRow,
    ShownScore,
    Training,
    TrainingCurve,
)
from palate.report.pictures import HALF, NARROW, WIDE, Chart, Picture, Series, draw

MODEL_TONES = 5
MOST_POINTS = 160
GROUPS: tuple[tuple[str, tuple[PredictorKind, ...]], ...] = (
    ("Models", ("model",)),
    ("References", ("rule", "reference")),
    ("Controls", ("control",)),
)


@dataclass(frozen=True)
class Group:
    """Rows of the score table with a common heading."""

    heading: str
    rows: Sequence[ScoreRow]


@dataclass(frozen=True)
class Whisker:
    """A score and its interval as percentages of a cell's width."""

    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A category of an answer or of the true labels; ``hit`` is whether it is in both."""

    category: str
    hit: bool


@dataclass(frozen=True)
class SideVerdicts:
    """Categories that an answer names as liked (or disliked), and the true ones that it misses."""

    named: Sequence[Verdict]
    missed: Sequence[str]


@dataclass(frozen=True)
class LengthRow:
    """One window length, with the score of each line or None."""

    length: int
    f1: Sequence[float | None]


class ReportView:
    """Values that page.html needs in addition to the data."""

    def __init__(self, data: ReportData) -> None:
        self.data = data
        models = [row for row in data.scores if row.kind == "model"]
        self.best = max(models, key=lambda row: row.f1.value, default=None)
        self.rule = next((row for row in data.scores if row.kind == "rule"), None)
        self._top = max([0.1, *(row.f1.high or row.f1.value for row in data.scores)])
        self._tones = self._model_tones()

    def _model_tones(self) -> dict[str, str]:
        names = [row.predictor for row in self.data.scores if row.kind == "model"]
        names += [line.name for line in self.data.lengths if line.kind == "model"]
        names += [curve.name for curve in self.data.training.curves] if self.data.training else []
        if self.best:
            names.insert(0, self.best.predictor)
        return {name: f"model-{i % MODEL_TONES + 1}" for i, name in enumerate(dict.fromkeys(names))}

    def tone(self, name: str, kind: PredictorKind = "model") -> str:
        """Return the CSS class of a predictor in charts and tables."""
        return self._tones[name] if kind == "model" and name in self._tones else kind

    def groups(self) -> list[Group]:
        """Group the rows of the score table: models, references, controls."""
        groups = [
            Group(name, [row for row in self.data.scores if row.kind in kinds]) for name, kinds in GROUPS
        ]
        return [group for group in groups if group.rows]

    def share_of_rule(self) -> float | None:
        """Compute the best model's liked F1 divided by the label rule's."""
        return (
            self.best.f1.value / self.rule.f1.value
            if self.best and self.rule and self.rule.f1.value
            else None
        )

    def whisker(self, score: ShownScore) -> Whisker:
        """Compute the position of a score and its interval between 0 and the table's maximum."""
        ends = (score.value if end is None else end for end in (score.low, score.high))
        low, high = (round(94 * end / self._top + 3, 1) for end in ends)
        return Whisker(low, round(94 * score.value / self._top + 3, 1), high)

    def length_pictures(self) -> list[Picture]:
        """Chart of F1 by window length, wide and narrow."""
        order = {"control": 0, "reference": 1, "rule": 2, "model": 3}
        lines = sorted(self.data.lengths, key=lambda line: order[line.kind])
        chart = Chart(
            title="Liked F1",
            x_name="window length (interactions, log scale)",
            series=[self._length_series(line) for line in lines],
            log_x=True,
            x_ticks=sorted({length for line in lines for length in line.lengths}),
        )
        return [draw(chart, WIDE), draw(chart, NARROW)]

    def _length_series(self, line: LengthLine) -> Series:
        name = f"{line.name} (yardstick)" if line.kind == "rule" else line.name
        return Series(name, self.tone(line.name, line.kind), line.lengths, line.f1, line.low, line.high)

    def length_rows(self) -> list[LengthRow]:
        """Format the numbers as a table."""
        scores = [dict(zip(line.lengths, line.f1, strict=True)) for line in self.data.lengths]
        lengths = sorted({length for line in self.data.lengths for length in line.lengths})
        return [LengthRow(length, [by_length.get(length) for by_length in scores]) for length in lengths]

    def training_pictures(self) -> list[list[Picture]]:
        """Charts of the loss and of the dev F1, each wide and narrow; empty charts are omitted."""
        if self.data.training is None:
            return []
        charts = [self._loss_chart(self.data.training), self._dev_chart(self.data.training)]
        return [[draw(chart, HALF), draw(chart, NARROW)] for chart in charts if chart.series]

    def _loss_chart(self, training: Training) -> Chart:
        series = [self._loss_series(curve) for curve in training.curves if curve.loss]
        losses = [value for one in series for value in one.y]
        log = bool(losses) and min(losses) > 0 and max(losses) > 8 * min(losses)
        return Chart(
            "Training loss (log scale)" if log else "Training loss", training.unit, series, log_y=log
        )

    def _loss_series(self, curve: TrainingCurve) -> Series:
        x, loss = _thinned(curve.x), _thinned(curve.loss)
        return Series(curve.name, self.tone(curve.name), x, loss, dots=False)

    def _dev_chart(self, training: Training) -> Chart:
        curves = [curve for curve in training.curves if curve.dev_f1]
        series = [Series(curve.name, self.tone(curve.name), curve.dev_x, curve.dev_f1) for curve in curves]
        return Chart("Liked F1 on dev users", training.unit, series)

    def sides(self, example: ExampleUser, answer: ExampleAnswer) -> list[SideVerdicts]:
        """Compare an answer's categories with the true ones."""
        return [
            SideVerdicts(
                [Verdict(name, name in truth) for name in named], [t for t in truth if t not in named]
            )
            for named, truth in (
                (answer.labels.liked, example.truth.liked),
                (answer.labels.disliked, example.truth.disliked),
            )
        ]


def _thinned(values: Sequence[float]) -> list[float]:
    """Downsample a curve by averaging equal segments."""
    size = -(-len(values) // MOST_POINTS)
    stretches = zip_longest(*[iter(values)] * size) if size > 1 else ((value,) for value in values)
    kept = [[value for value in stretch if value is not None] for stretch in stretches]
    return [sum(stretch) / len(stretch) for stretch in kept]
