"""HTML page of the results: the paper's tables, its Figure 2, and quality against cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from palate.report.build import render_page
from palate.report.pictures import HALF, NARROW, WIDE, Chart, Cut, Picture, Series, draw
from palate.report.sheet import Sheet
from palate.reproduce.plan import Triple
from palate.reproduce.results import REFERENCE, ResultRow, Results
from palate.reproduce.sheets import NOTES, detail_sheets, summary, table_name, table_sheets
from palate.system.files import write_text

PAGE, TITLE = "report.html", "The paper's tables, rebuilt"
METRICS = ("precision", "recall", "F1")
LEVEL = "LongT5 text history, 50"
"""Row whose F1 is a horizontal line in Figure 2, if its system has learned to read the user."""


def write_results_page(results: Results, path: Path) -> None:
    """Write the page atomically; it loads nothing from other hosts."""
    view = ResultsView(results)
    write_text(path, render_page("results.html", title=TITLE, results=results, view=view, notes=NOTES))


class ResultsView:
    """Context of the template results.html, besides the results."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.summary = summary(results)

    def tables(self) -> Iterator[tuple[str, str, list[Sheet]]]:
        """Yield the name, title and sheets of each table."""
        for name, table in self.results.tables.items():
            yield table_name(name), table.title, table_sheets(self.results, table)

    def details(self) -> list[Sheet]:
        """Sheets by category and by history length."""
        return detail_sheets(self.results)

    def figure(self) -> list[list[Picture]]:
        """Charts of Figure 2: each metric by history length, wide and narrow; F1 first."""
        table = self.results.tables.get("table4")
        if table is None:
            return []
        charts = [(self._length_chart(table.rows, table.beside, metric), metric) for metric in (2, 0, 1)]
        return [_cuts(chart, WIDE if metric == 2 else HALF) for chart, metric in charts if chart.series]

    def costs(self) -> list[Picture]:
        """Chart of liked F1 by multiply-adds of an answer, one point per system of Table 1 in its smallest size."""
        table = self.results.tables.get("table1")
        points = []
        for row in (*table.rows, *table.beside) if table else ():
            one = next(iter(row.ours.values()), None)
            if one is not None and one.answer is not None:
                points.append((row.name, one.answer.multiply_adds / 1e6, one.liked[2]))
        series = [
            Series(name, _tone(name, index), [cost], [f1])
            for index, (name, cost, f1) in enumerate(sorted(points, key=lambda point: point[1]))
        ]
        chart = Chart("Liked F1", "multiply-adds an answer, millions (log scale)", series, log_x=True)
        return _cuts(chart, WIDE) if series else []

    def _length_chart(self, rows: tuple[ResultRow, ...], beside: tuple[ResultRow, ...], metric: int) -> Chart:
        lengths = sorted({row.window for row in rows})
        series = []
        for number, size in enumerate(self.results.sizes, start=1):
            ours = {row.window: row.ours[size].liked for row in rows if size in row.ours}
            series.append(_line(f"ours, {size}", f"model-{number}", ours, metric))
            paper = {row.window: row.paper[size] for row in rows if size in row.paper}
            series.append(_line(f"paper, {size}", "control", paper, metric))
        for name, tone in (("Rule", "rule"), ("Boosting", "reference")):
            curve = {
                row.window: row.ours[REFERENCE].liked
                for row in beside
                if row.name.startswith(name) and REFERENCE in row.ours
            }
            series.append(_line(name.lower(), tone, curve, metric))
        level = next((row for row in beside if row.name == LEVEL), None)
        for size in self.results.sizes[:1]:
            if level and size in level.ours and level.ours[size].reads_the_user:
                reached = dict.fromkeys(lengths, level.ours[size].liked)
                series.append(_line(f"LongT5 text, 50 items, {size}", "model-3", reached, metric, dots=False))
        drawn = [one for one in series if one.x]
        return Chart(METRICS[metric], "history length (items, log scale)", drawn, log_x=True, x_ticks=lengths)


def _line(name: str, tone: str, points: dict[int, Triple], metric: int, dots: bool = True) -> Series:
    lengths = sorted(points)
    return Series(name, tone, lengths, [points[length][metric] for length in lengths], dots=dots)


def _tone(name: str, index: int) -> str:
    return "model-1" if name.startswith("Embedding") else f"model-{2 + index % 4}"


def _cuts(chart: Chart, wide: Cut) -> list[Picture]:
    return [draw(chart, wide), draw(chart, NARROW)]
