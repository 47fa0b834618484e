"""Tables of text, rendered for the terminal, as Markdown and as LaTeX."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_NAME, _NUMBER = 12, 9
"""Minimum width of names, and maximum width of a cell that is not wrapped, in terminal columns."""


@dataclass(frozen=True)
class Sheet:
    """A table of texts that rich prints to a terminal; line breaks in cells apply only there."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    spare: Sequence[str] = ()
    """Headings of columns to drop on a narrow terminal, in this order, so that no number is truncated."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield title, table and note; title and note are wrapped at the terminal's width, not the table's."""
        unbounded = options.update(max_width=sys.maxsize)
        for count in range(len(self.spare) + 1):
            left_out = self.spare[:count]
            table = self._table(left_out)
            if Measurement.get(console, unbounded, table).minimum <= options.max_width:
                break
        names = ", ".join(name.replace("\n", " ") for name in left_out)
        yield Text(self.title, style="table.title")
        yield table
        if note := f"{self.note} Not shown for lack of room: {names}.".strip() if names else self.note:
            yield Text(f"{note}\n", style="table.caption")

    def _table(self, left_out: Sequence[str]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        shown = [at for at, name in enumerate(self.head) if name not in left_out]
        for at in shown:
            cells = [row[at] for row in self.rows]
            longest, word = (max(map(len, found), default=0) for found in (cells, " ".join(cells).split()))
            if at == 0:
                table.add_column(
                    Text(self.head[at]), vertical="bottom", overflow="fold", min_width=min(longest, _NAME)
                )
            else:
                whole = longest <= _NUMBER
                width = longest if whole else word
                table.add_column(Text(self.head[at]), justify="right", no_wrap=whole, min_width=width)
        for row in self.rows:
            table.add_row(*(Text(row[at]) for at in shown))
        return table

    def latex(self) -> str:
        """Format as a LaTeX tabular with booktabs rules; title and note are comments."""
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
        """Format as Markdown with title and note."""
        return "\n".join([self.title, "", self.markdown_table(), "", self.note, ""])

    def markdown_table(self) -> str:
        """Format as a Markdown table, without title and note."""
        rows = [self.head, ["---", *["---:"] * (len(self.head) - 1)], *self.rows]
        cells = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _latex(cell: str) -> str:
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", cell.replace("\\", r"\textbackslash "))
    return escaped.replace("\n", " ").replace("±", r"$\pm$").replace("–", "--")
