"""Evaluation from Python: :func:`palate.evaluate` and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.errors import PalateError
from palate.evaluation.label_sets import HALVES, named_sets, predictions_by_predictor, true_sets
from palate.evaluation.metrics import Score, paired_difference
from palate.evaluation.tables import sheets
from palate.evaluation.write import WindowScores, score_windows
from palate.report.sheet import Sheet

if TYPE_CHECKING:
    import polars as pl
    import torch
    from rich.console import RenderableType

    from palate.data.dataset import Dataset
    from palate.evaluation.compare import Entry
    from palate.evaluation.evaluate import Evaluation
    from palate.schema import Bools, LabelRule, Split, Truth, UserChoice, WindowKind


@dataclass(frozen=True)
class EvaluationTable:
    """Scores of several predictors at one or several window sizes.

    Printed, it is the table that ``palate evaluate`` shows.

    Example:
        >>> table = palate.evaluate(["rule", "population"], data, windows=[5, 10])
        >>> table.windows
        (5, 10)
        >>> table.score("rule", "liked.f1", window=10).value > table.score("population").value
        True
        >>> table.to_polars().shape[0]
        4
    """

    evaluations: tuple[Evaluation, ...]
    """One evaluation per truth and window size, in the requested order, grouped by truth."""
    label_names: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the predictors, in row order."""
        return tuple(one.name for one in self.evaluations[0].predictors)

    @property
    def windows(self) -> tuple[int, ...]:
        """Window sizes, in interactions."""
        return tuple(dict.fromkeys(one.setting.window for one in self.evaluations))

    @property
    def truths(self) -> tuple[Truth, ...]:
        """Truths: which interactions the true labels are computed from."""
        return tuple(dict.fromkeys(one.setting.truth for one in self.evaluations))

    def score(
        self, name: str, metric: str = "liked.f1", window: int | None = None, truth: Truth | None = None
    ) -> Score:
        """Return one score with its 95% interval.

        Args:
            name: Name of a predictor.
            metric: "liked", "disliked" or "joint", then "precision", "recall" or "f1" (the default) after a dot.
            window: One of :attr:`windows`; the first if None.
            truth: One of :attr:`truths`; the first if None.

        Raises:
            PalateError: The predictor, metric, window or truth does not exist.
        """
        evaluation = self._at(window, truth)
        scores = {one.name: one.scores for one in evaluation.predictors}
        if name not in scores:
            raise PalateError(f"no predictor {name!r}; there are {', '.join(map(repr, scores))}")
        part, _, measure = metric.partition(".")
        found = getattr(getattr(scores[name], part, None), measure or "f1", None)
        if not isinstance(found, Score):
            raise PalateError(
                f"no metric {metric!r}; expected liked, disliked or joint, then precision, recall or f1"
            )
        return found

    def compare(
        self,
        first: str,
        second: str,
        metric: str = "liked",
        window: int | None = None,
        truth: Truth | None = None,
    ) -> Score:
        """Compare the F1 of two predictors, paired by user.

        Args:
            first: Name of a predictor.
            second: Name of the other predictor.
            metric: "liked" or "disliked".
            window: One of :attr:`windows`; the first if None.
            truth: One of :attr:`truths`; the first if None.

        Returns:
            The first's F1 minus the second's, with a 95% interval of a paired bootstrap over users. An interval
                without 0 suggests a difference that holds for other users, too.

        Raises:
            PalateError: The predictor, metric, window or truth does not exist.

        Example:
            >>> table = palate.evaluate(["rule", SaysNothing()], data, windows=5)
            >>> better = table.compare("rule", "says nothing")
            >>> better.low <= better.value <= better.high
            True
        """
        evaluation = self._at(window, truth)
        if metric not in HALVES:
            raise PalateError(f"no labels {metric!r}; expected 'liked' or 'disliked'")
        true, one = self._sets(evaluation, first, metric)
        _, other = self._sets(evaluation, second, metric)
        return paired_difference(true, one, other, evaluation.setting.seed)

    def to_polars(self) -> pl.DataFrame:
        """Return a data frame with one row per predictor, window and truth: all scores with their intervals."""
        import polars as pl

        return pl.DataFrame([row for evaluation in self.evaluations for row in _rows(evaluation)])

    def to_markdown(self) -> str:
        """Return the table as Markdown, followed by calibration and abstention tables if requested."""
        return "\n".join(sheet.markdown() for sheet in sheets(self._scores))

    def to_latex(self) -> str:
        """Return the table as a LaTeX tabular with booktabs rules."""
        return self._sheet().latex()

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        Console(file=text, width=140).print(self)
        return text.getvalue()

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        return Group(*sheets(self._scores))

    def _sheet(self) -> Sheet:
        return next(sheets(self._scores))

    @property
    def _scores(self) -> WindowScores:
        return WindowScores(list(self.evaluations), {}, self.label_names)

    def _at(self, window: int | None, truth: Truth | None) -> Evaluation:
        for evaluation in self.evaluations:
            if window in (None, evaluation.setting.window) and truth in (None, evaluation.setting.truth):
                return evaluation
        if truth not in (None, *self.truths):
            raise PalateError(f"no truth {truth!r}; there are {', '.join(self.truths)}")
        raise PalateError(f"no window {window}; there are {', '.join(map(str, self.windows))}")

    def _sets(self, evaluation: Evaluation, name: str, metric: str) -> tuple[Bools, Bools]:
        """Return the true and the predicted labels of each user, both [B, L]."""
        mine = predictions_by_predictor(evaluation).get(name)
        if not mine:
            raise PalateError(f"no predictor {name!r}; there are {', '.join(map(repr, self.names))}")
        half, labels = HALVES.index(metric), self.label_names
        return true_sets(mine, labels)[..., half], named_sets(mine, labels)[..., half]


def evaluate(
    entries: Sequence[Entry],
    data: Dataset | Path | str | None = None,
    *,
    split: Split = "test",
    windows: Sequence[int] | int | None = None,
    window_kind: WindowKind | None = None,
    seed: int = 0,
    bare: bool = False,
    controls: bool = False,
    transfer: bool = False,
    device: str | torch.device = "auto",
    users: UserChoice = "partly",
    truth: Truth | Sequence[Truth] = "labels",
    rule: LabelRule | None = None,
    calibration: bool = False,
    promise: float | None = None,
) -> EvaluationTable:
    """Score predictors on the same examples.

    Args:
        entries: Models, run folders, names of registered references ("rule", "population", …), and your own predictors
            with ``name`` and ``predict(user_index, windows)``.
        data: Dataset or its folder; by default that of the first run.
        split: Split of the users.
        windows: Window size or sizes in interactions; by default the first run's.
        window_kind: "recent" or "random" interactions; by default the first run's.
        seed: Seed of random choices.
        bare: Leave out the references and the control that are added to runs and models.
        controls: Add all controls of runs and models, not only another user's history.
        transfer: Allow data other than the models' training data.
        device: Device of the runs' models: "auto" for the first GPU, or the CPU without one; or a torch device such as
            "cpu" or "cuda:1". Loaded models stay on theirs.
        users: "partly" for users with more interactions than the window, or "all". If the window shows the whole
            history, the label rule is right by definition.
        truth: Interactions that the true labels are computed from, or several: "labels" for the full history, which
            includes the window; "unseen" for those outside the window; "future" for those after the window's newest,
            with windows drawn from the older half of each history.
        rule: Label rule: "thresholds", "own-mean" or "quantiles"; by default that of the models or the dataset.
        calibration: Compute the calibration of predictors with ``probabilities(user_index, windows)``.
        promise: Expected F1 below which such predictors abstain; None to never abstain.

    Returns:
        Scores of all predictors.

    Raises:
        DataError: An entry is neither a run nor a registered name, no dataset is given, or no user can be scored.
        MismatchError: A model was trained on other data, tasks differ, or the device does not exist.

    Example:
        >>> table = palate.evaluate([model, "rule", SaysNothing()], data, windows=[5, 10])
        >>> table.names[3:]
        ("model, another user's history", 'model, view in a template', 'model', 'says nothing')
        >>> both = palate.evaluate(["rule"], data, windows=5, truth=["labels", "unseen"])
        >>> both.truths
        ('labels', 'unseen')
    """
    from palate.evaluation.compare import Options

    sizes = [windows] if isinstance(windows, int) else list(windows or [])
    options = Options(
        data=Path(data) if isinstance(data, str) else data,
        split=split,
        window=sizes[0] if sizes else None,
        window_kind=window_kind,
        seed=seed,
        transfer=transfer,
        bare=bare,
        controls=controls,
        device=device,
        users=users,
        truths=(truth,) if isinstance(truth, str) else tuple(truth),
        rule=rule,
        calibration=calibration,
        promise=promise,
    )
    scores = score_windows(entries, options, sizes)
    return EvaluationTable(tuple(scores.evaluations), scores.label_names)


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for one in evaluation.predictors:
        setting = evaluation.setting
        row: dict[str, Any] = {"predictor": one.name, "window": setting.window, "truth": setting.truth}
        for part in ("liked", "disliked", "joint"):
            for measure in ("precision", "recall", "f1"):
                score = getattr(getattr(one.scores, part), measure)
                name = f"{part}_{measure}"
                row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        rows.append(row | {"unreadable": one.unreadable, "seconds": one.seconds})
    return rows
