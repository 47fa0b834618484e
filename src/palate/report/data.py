"""The data of a report: plain values that the caller fills in, stored as JSON and rendered as a page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palate.system.records import Frozen

PredictorKind = Literal["model", "rule", "reference", "control"]
"""``rule`` is the label rule, the baseline of the page; a ``control`` is a model with deliberately wrong input."""
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Fact(Frozen):
    """One fact about the run: dataset, machine, versions, parameters."""

    label: str
    value: str


class ShownScore(Frozen):
    """A score and its confidence interval, if estimated."""

    value: Share
    low: Share | None = None
    high: Share | None = None


class ScoreRow(Frozen):
    """One predictor's scores on the test users."""

    predictor: str
    kind: PredictorKind
    precision: ShownScore
    """Precision of the liked labels; ``recall`` and ``f1`` are of the liked labels, too."""
    recall: ShownScore
    f1: ShownScore
    disliked_f1: ShownScore | None = None
    joint_f1: ShownScore | None = None
    prompt_tokens: float | None = Field(None, ge=0)
    """Mean length of the user prompt over users, in tokens or vectors."""
    training_seconds: float | None = Field(None, ge=0)
    note: str = ""


class LengthLine(Frozen):
    """Liked F1 of one predictor by window length; ``low`` and ``high`` are empty or as long as ``f1``."""

    name: str
    kind: PredictorKind
    lengths: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    f1: tuple[Share, ...]
    low: tuple[Share, ...] = ()
    high: tuple[Share, ...] = ()

    @model_validator(mode="after")
    def _aligned(self) -> LengthLine:
        wanted = len(self.lengths)
        if len(self.f1) != wanted or {len(self.low), len(self.high)} not in ({0}, {wanted}):
            found = f"{len(self.f1)} scores, {len(self.low)} lows and {len(self.high)} highs"
            raise ValueError(f"{self.name}: {found} for {wanted} lengths; expected one of each per length")
        return self


class TrainingCurve(Frozen):
    """One model's training: its loss and its liked F1 on dev users; ``name`` is that of its score row."""

    name: str
    x: tuple[Finite, ...] = ()
    loss: tuple[Finite, ...] = ()
    dev_x: tuple[Finite, ...] = ()
    dev_f1: tuple[Share, ...] = ()

    @model_validator(mode="after")
    def _aligned(self) -> TrainingCurve:
        for name, x, y in (("loss", self.x, self.loss), ("dev_f1", self.dev_x, self.dev_f1)):
            if len(x) != len(y):
                raise ValueError(
                    f"{self.name}: {len(y)} values of {name} for {len(x)} steps; expected one per step"
                )
        return self


class Training(Frozen):
    """Training curves, all with the same unit on the x axis."""

    unit: Literal["steps", "minutes"]
    curves: tuple[TrainingCurve, ...]


class Labels(Frozen):
    """Liked categories, best first, and disliked categories, worst first."""

    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()


class ExampleItem(Frozen):
    """One rated item of a window."""

    title: str
    categories: tuple[str, ...] = ()
    rating: Finite


class ExampleAnswer(Frozen):
    """A predictor's answer, and the labels parsed from it."""

    predictor: str
    kind: PredictorKind
    text: str
    labels: Labels


class ExampleUser(Frozen):
    """A test user: some items of the window, the true labels, and the predictors' answers."""

    user_id: str
    window_size: int = Field(ge=0)
    highest: tuple[ExampleItem, ...] = ()
    lowest: tuple[ExampleItem, ...] = ()
    truth_text: str
    truth: Labels
    answers: tuple[ExampleAnswer, ...] = ()


class CategoryF1(Frozen):
    """Liked F1 of one category."""

    category: str
    users: int = Field(ge=0)
    """Number of test users with the category as a true liked label."""
    model: Share
    rule: Share


class CategoryComparison(Frozen):
    """Comparison of one model with the label rule, by category."""

    model: str
    rows: tuple[CategoryF1, ...]


class ReportData(Frozen):
    """All data of the page; sections without content are omitted."""

    title: str
    lead: str
    """Introductory paragraph on the data, the model and the training."""
    warnings: tuple[str, ...] = ()
    """Warnings about trainings, one sentence each."""
    facts: tuple[Fact, ...] = ()
    scores: tuple[ScoreRow, ...] = ()
    interval: str = "95% bootstrap interval over users"
    """Description of the confidence intervals."""
    lengths: tuple[LengthLine, ...] = ()
    training: Training | None = None
    examples: tuple[ExampleUser, ...] = ()
    categories: CategoryComparison | None = None
    notes: tuple[str, ...] = ()
    """Paragraphs on the method and its limitations."""
    commands: tuple[str, ...] = ()
    """Commands that reproduce the run."""
