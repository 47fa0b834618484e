"""Prints a report to the terminal: a few users with their answers, and the score table."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from palate.report.data import ExampleItem, ExampleUser, ReportData, ShownScore


def print_report(data: ReportData, console: Console) -> None:
    """Print the examples, the scores and the warnings; correct categories are marked ✓, wrong ones ✗."""
    for example in data.examples:
        console.print(_example(example), "")
    console.print(_scores(data))
    for warning in data.warnings:
        console.print(Text(f"warning: {warning}", "bold red"))


def _example(example: ExampleUser) -> Table:
    table = Table(
        title=Text(f"User {example.user_id}: a window of {example.window_size} interactions"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("", "likes", "dislikes"):
        table.add_column(name, overflow="fold")
    table.add_row("rated", _items(example.highest), _items(example.lowest))
    truth = example.truth
    halves = (Text(", ".join(names) or "–") for names in (truth.liked, truth.disliked))
    table.add_row("truth", *halves, style="bold")
    for answer in example.answers:
        sides = ((answer.labels.liked, truth.liked), (answer.labels.disliked, truth.disliked))
        table.add_row(Text(answer.predictor), *(_verdicts(named, true) for named, true in sides))
    return table


def _items(items: tuple[ExampleItem, ...]) -> Text:
    return Text("\n".join(f"{item.rating:g}  {item.title}" for item in items), style="dim")


def _verdicts(named: tuple[str, ...], true: tuple[str, ...]) -> Text:
    marks = [("✓" + one, "green") if one in true else ("✗" + one, "red") for one in named]
    return Text("  ").join(Text(text, style) for text, style in marks) if marks else Text("–")


def _scores(data: ReportData) -> Table:
    table = Table(
        title="Weighted F1 on test users",
        caption=f"In brackets: {data.interval}.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("predictor")
    for name in ("liked", "disliked", "both"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in data.scores:
        style = "bold" if row.kind == "model" else None
        others = ("–" if one is None else f"{one.value:.3f}" for one in (row.disliked_f1, row.joint_f1))
        table.add_row(Text(row.predictor), _with_interval(row.f1), *others, style=style)
    return table


def _with_interval(score: ShownScore) -> str:
    interval = "" if score.low is None or score.high is None else f" ({score.low:.2f}–{score.high:.2f})"
    return f"{score.value:.3f}{interval}"
