"""Evaluations as tables: for the terminal, and for a document."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation, PredictorScores
    from palate.evaluation.windows import WindowScores

_NAME, _NUMBER = 12, 9
"""Columns of a terminal that a name gets at least, and up to which a cell stays in one line."""
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
_SEEDS_NOTE = (
    " ± is the sample standard deviation over training seeds; every other row is a single run or a reference."
)


def evaluation_markdown(evaluation: Evaluation) -> str:
    """The scores as a Markdown table, one row a predictor."""
    return evaluation_sheet(evaluation).markdown()


def window_markdown(scores: WindowScores) -> str:
    """Liked F1 as a Markdown table: one row a predictor and a group of seeds, one column a window."""
    return window_sheet(scores).markdown()


@dataclass(frozen=True)
class Sheet:
    """A table before it is drawn; rich prints it for a terminal. A line break in a cell is one there only."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    spare: Sequence[str] = ()
    """Columns that a narrow terminal does without, the first to go first: no figure is cut off."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(max_width=sys.maxsize)
        tables = (self._table(self.spare[:left_out]) for left_out in range(len(self.spare) + 1))
        fitting = (
            one for one in tables if Measurement.get(console, unbounded, one).minimum <= options.max_width
        )
        yield next(fitting, self._table(self.spare))

    def _table(self, left_out: Sequence[str]) -> Table:
        names = ", ".join(name.replace("\n", " ") for name in left_out)
        note = f"{self.note} Not shown for lack of room: {names}." if names else self.note
        table = Table(title=escape(self.title), caption=note, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.title_justify = table.caption_justify = "left"
        shown = [at for at, name in enumerate(self.head) if name not in left_out]
        for at in shown:
            cells = [row[at] for row in self.rows]
            longest, word = max(map(len, cells)), max(len(word) for cell in cells for word in cell.split())
            if at == 0:
                table.add_column(
                    self.head[at], vertical="bottom", overflow="fold", min_width=min(longest, _NAME)
                )
            else:
                whole = longest <= _NUMBER
                width = longest if whole else word
                table.add_column(self.head[at], justify="right", no_wrap=whole, min_width=width)
        for row in self.rows:
            table.add_row(*(escape(row[at]) for at in shown))
        return table

    def latex(self) -> str:
        """For a paper: a tabular with booktabs' rules; the title and the note are comments."""
        rows = [" & ".join(map(_latex, row)) + r" \\" for row in (self.head, *self.rows)]
        lines = [
            rf"\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
        ]
        lines += [r"\bottomrule", r"\end{tabular}"]
        return "\n".join([f"% {self.title}", *lines, f"% {self.note}", ""])

    def markdown(self) -> str:
        """For a document."""
        rows = [self.head, ["---", *["---:"] * (len(self.head) - 1)], *self.rows]
        cells = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        return "\n".join([self.title, "", *lines, "", self.note, ""])


def evaluation_sheet(evaluation: Evaluation) -> Sheet:
    """The scores at one window: one row a predictor."""
    rows = [_cells(one) for one in evaluation.predictors]
    return Sheet(_title(evaluation, f"{evaluation.setting.window} "), _HEAD, rows, _NOTE, _SPARE)


def window_sheet(scores: WindowScores) -> Sheet:
    """Liked F1 at several windows: one row a predictor, one column a window."""
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


def _latex(cell: str) -> str:
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", cell.replace("\\", r"\textbackslash "))
    return escaped.replace("\n", " ").replace("±", r"$\pm$").replace("–", "--")


def _title(evaluation: Evaluation, window: str = "") -> str:
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
