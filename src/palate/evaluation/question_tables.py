"""What questions of every kind and wording scored, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.evaluation.tables import Sheet

if TYPE_CHECKING:
    from palate.evaluation.questions import QuestionEvaluation

_NAMES = {"liked_f1": "liked F1", "disliked_f1": "disliked F1", "auc": "AUC", "mae": "MAE", "rmse": "RMSE"}
_NOTE = (
    "F1 is weighted by category; yes-no, pair and rating are read from the probabilities of the answers. A new "
    "wording was in no training."
)


def question_markdown(evaluation: QuestionEvaluation) -> str:
    """The scores as a Markdown table, one row a wording and who answered it."""
    return question_sheet(evaluation).markdown()


def question_sheet(evaluation: QuestionEvaluation) -> Sheet:
    """The scores, one row a wording and who answered it."""
    setting = evaluation.setting
    rows = [
        (
            row.wording,
            "new" if row.held_out else "",
            row.predictor,
            ", ".join(f"{_NAMES.get(name, name)} {value:.3f}" for name, value in row.scores.items()),
        )
        for row in evaluation.rows
    ]
    title = (
        f"{evaluation.dataset}: {evaluation.users} {setting.split} users, "
        f"{setting.window} {setting.kind} interactions, seed {setting.seed}"
    )
    return Sheet(title, ("question", "", "answered by", "scores"), rows, _NOTE)
