"""Tables of evaluations, for terminals and documents."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from palate.report.sheet import Sheet

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation, PredictorScores
    from palate.evaluation.questions import QuestionEvaluation
    from palate.evaluation.write import WindowScores

_HEAD = (
    "predictor",
    "liked\nP",
    "liked\nR",
    "liked F1\n(95% interval)",
    "disliked\nF1",
    "joint\nF1",
    "not\nread",
    "time",
)
_SPARE = (_HEAD[7], _HEAD[6], _HEAD[2], _HEAD[1], _HEAD[5], _HEAD[4])
_NOTE = (
    "P, R and F1 are weighted by category; the interval is a bootstrap over users; not read: share of answers "
    "without a label."
)
_WINDOW_NOTE = "Liked F1, weighted by category, by the window's length."
_METRICS = {"liked_f1": "liked F1", "disliked_f1": "disliked F1", "auc": "AUC", "mae": "MAE", "rmse": "RMSE"}
_QUESTION_NOTE = (
    "F1 is weighted by category; yes-no, pair and rating are read from the probabilities of the answers. A new "
    "wording was in no training."
)
_SEEDS_NOTE = (
    " ± is the sample standard deviation over training seeds; every other row is a single run or a reference."
)


def evaluation_sheet(evaluation: Evaluation) -> Sheet:
    """Make the table of scores at one window size, one row per predictor."""
    rows = [_cells(one) for one in evaluation.predictors]
    return Sheet(_title(evaluation, f"{evaluation.setting.window} "), _HEAD, rows, _NOTE, _SPARE)


def window_sheet(scores: WindowScores) -> Sheet:
    """Make the table of liked F1 at several window sizes, one row per predictor, one column per window size."""
    f1 = [
        {one.name: one.scores.liked.f1.value for one in evaluation.predictors}
        for evaluation in scores.evaluations
    ]
    rows = [[name, *(f"{at[name]:.3f}" for at in f1)] for name in f1[0]]
    for together, names in scores.seeds.items():
        rows.append([together, *(_mean_and_spread([at[name] for name in names]) for at in f1)])
    head = ["predictor", *(f"{evaluation.setting.window:,}" for evaluation in scores.evaluations)]
    note = _WINDOW_NOTE + (_SEEDS_NOTE if scores.seeds else "")
    return Sheet(_title(scores.evaluations[0]), head, rows, note)


def question_sheet(evaluation: QuestionEvaluation) -> Sheet:
    """Make the table of questions, one row per wording and predictor."""
    setting = evaluation.setting
    rows = [
        (
            row.wording,
            "new" if row.held_out else "",
            row.predictor,
            ", ".join(f"{_METRICS.get(name, name)} {value:.3f}" for name, value in row.scores.items()),
        )
        for row in evaluation.rows
    ]
    title = _title(evaluation, f"{setting.window} ")
    return Sheet(title, ("question", "", "answered by", "scores"), rows, _QUESTION_NOTE)


def _title(evaluation: Evaluation | QuestionEvaluation, window: str = "") -> str:
    setting = evaluation.setting
    return (
        f"{evaluation.dataset}: {evaluation.users} {setting.split} users, "
        f"{window}{setting.kind} interactions, seed {setting.seed}"
    )


def _mean_and_spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f}\n± {stdev(values):.3f}"


def _cells(one: PredictorScores) -> list[str]:
    liked, disliked, joint = one.scores.liked, one.scores.disliked, one.scores.joint
    return [
        one.name,
        f"{liked.precision.value:.3f}",
        f"{liked.recall.value:.3f}",
        f"{liked.f1.value:.3f} ({liked.f1.low:.2f}–{liked.f1.high:.2f})",
        f"{disliked.f1.value:.3f}",
        f"{joint.f1.value:.3f}",
        f"{one.unreadable:.1%}",
        f"{one.seconds:.1f} s",
    ]
