"""The results as a Markdown document: paper, ours, difference, and the cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from palate.reproduce.results import REFERENCE, Measured, ResultRow, Results, ResultTable

NOTES = """**Notes.** Figures are weighted precision / recall / F1 of the liked categories. The difference is ours
less the paper's F1. ± is the sample standard deviation over seeds; brackets hold a 95% bootstrap interval over users.
"Other user" is the F1 with another user's history. The paper's row for 5 items in Table 4 equals the *text* row for 5
items of its Table 1, and the "+0.21 and +0.25 F1" of its abstract are differences to the counting baseline."""


def as_markdown(results: Results) -> str:
    """The whole document."""
    return "\n\n".join(_parts(results)) + "\n"


def _parts(results: Results) -> Iterator[str]:
    machine, versions = results.machine, results.versions
    yield "# Results"
    yield (
        f"Preset *{results.preset}*, {results.dataset} ({results.data_fingerprint[:19]}), {results.users:,} test "
        f"users, {results.window_kind} windows. {machine.processor}, {machine.cores} cores"
        + (f", {machine.gpu}" if machine.gpu else "")
        + f"; palate {versions.get('palate', '?')} ({(results.commit or 'no commit')[:9]}), "
        + f"torch {versions.get('torch')}."
    )
    for name, table in results.tables.items():
        yield f"## Table {name.removeprefix('table')}: {table.title}"
        yield _scores(table)
        if costs := _costs(table):
            yield costs
    yield NOTES


def _scores(table: ResultTable) -> str:
    header = ["", "size", "paper", "ours", "difference", "disliked F1", "other user"]
    rows = [
        [row.name, "" if size == REFERENCE else size, *_figures(row, size)]
        for row in (*table.rows, *table.beside)
        for size in ((REFERENCE,) if REFERENCE in row.ours else dict.fromkeys([*row.ours, *row.paper]))
    ]
    return _table(header, rows)


def _figures(row: ResultRow, size: str) -> list[str]:
    paper = row.paper.get("base" if size == REFERENCE else size)
    ours = row.ours.get(size)
    told = " / ".join(f"{value:.3f}" for value in paper) if paper else ""
    if ours is None:
        return [told, "not measured", "", "", ""]
    spread = "" if ours.f1_deviation is None else f" ± {ours.f1_deviation:.3f}"
    low, high = ours.f1_interval
    mine = " / ".join(f"{value:.3f}" for value in ours.liked) + f"{spread} ({low:.2f}–{high:.2f})"
    return [
        told,
        mine,
        f"{ours.liked[2] - paper[2]:+.3f}" if paper else "",
        f"{ours.disliked_f1:.3f}",
        "" if ours.control_f1 is None else f"{ours.control_f1:.3f}",
    ]


def _costs(table: ResultTable) -> str | None:
    header = ["", "size", "input vectors", "multiply-adds an answer", "an answer", "training", "peak memory"]
    rows = [
        [row.name, size, *_cost(one)]
        for row in (*table.rows, *table.beside)
        for size, one in row.ours.items()
        if one.answer is not None
    ]
    return _table(header, rows) if rows else None


def _cost(one: Measured) -> list[str]:
    assert one.answer is not None
    assert one.train_minutes is not None
    assert one.train_memory_gib is not None
    return [
        f"{one.answer.input_vectors:,.0f}",
        f"{one.answer.multiply_adds / 1e6:,.1f} M",
        f"{one.answer.milliseconds:,.0f} ms",
        f"{one.train_minutes:,.1f} min",
        f"{one.train_memory_gib:.1f} GiB",
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
