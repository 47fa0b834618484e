"""An evaluation as a table: for the terminal, and for a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from palate.evaluate import Evaluation, PredictorScores

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
_NOTE = (
    "P, R and F1 are weighted by category; the interval is a bootstrap over users; not read: share of answers "
    "without a label."
)


def evaluation_table(evaluation: Evaluation) -> Table:
    """The scores as a table for the terminal, one row a predictor."""
    table = Table(title=escape(_title(evaluation)), caption=_NOTE, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column(_HEAD[0], vertical="bottom")
    for name in _HEAD[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for one in evaluation.predictors:
        table.add_row(*map(escape, _cells(one)))
    return table


def evaluation_markdown(evaluation: Evaluation) -> str:
    """The scores as a Markdown table, one row a predictor."""
    head = [name.replace("\n", " ") for name in _HEAD]
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *map(_cells, evaluation.predictors)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([_title(evaluation), "", *lines, "", _NOTE, ""])


def _title(evaluation: Evaluation) -> str:
    setting = evaluation.setting
    return (
        f"{evaluation.dataset}: {evaluation.users} {setting.split} users, "
        f"{setting.window} {setting.kind} interactions, seed {setting.seed}"
    )


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
