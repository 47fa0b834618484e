"""Tables of the results, for the Markdown document and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from palate.evaluation.significance import SIGNIFICANT
from palate.report.sheet import Sheet
from palate.reproduce.answers import GroupScores, PairTest
from palate.reproduce.plan import Triple
from palate.reproduce.results import REFERENCE, Measured, ResultRow, Results, ResultTable
from palate.schema import WindowKind

COMPARED = (
    "palate, 50",
    "Embedding history, 50",
    "LongT5 text history, 50",
    "Text history, 5",
    "Rule, 50",
    "Boosting, 50",
)
"""Rows of Table 1 that are compared by category."""
NOT_LEARNED = "has not learned to read the user"
NOTES = (
    "Figures are weighted precision / recall / F1 of the liked categories, means over seeds; windows are drawn anew "
    "for each seed. Brackets hold a 95% interval of the mean F1, by a bootstrap over seeds and users; ± is the sample "
    "standard deviation over seeds. Costs are those of the first seed.",
    "Of users whose whole history is visible the label rule is right by definition: they stand apart, and the others "
    "first. The paper scores all of its users; the difference is ours, of all users, less the paper's F1.",
    "Two rows are compared by a paired randomisation test about the users of whom both see a part: users' answers are "
    "exchanged at random between the rows, all seeds' together. p-values are corrected by Holm's method for all pairs "
    "of a table and size.",
    f"“{NOT_LEARNED}” stands where the F1 is not higher than with another user's history (the same test, p < .05). "
    "The floor is what can be said without a user: labels drawn by the power of their frequency among training users "
    "that scores best on these.",
    "Two oddities of the paper: its row for 5 items in Table 4 equals the row of the *text* history of 5 items in its "
    "Table 1, and the “+0.21 and +0.25 F1” of its abstract are differences to the counting baseline.",
    "The paper does not say which labels it scores, nor which items of a history it shows. Scoring the liked labels "
    "brings its counting baseline out as it reports it; the disliked ones stand beside.",
    "The presets mini and smoke train T5s with random weights: there, the names of language models and sizes are "
    "places in the tables, not checkpoints. A system whose steps take long has learned from few windows in its "
    "minutes.",
    "Population, floor, rule, shrinkage and boosting are not in the paper. The rule applies the label rule to what "
    "the models see; boosting is gradient-boosted trees on each category's count and mean rating in the window.",
)


def table_name(name: str) -> str:
    """Return a table's name for documents, such as ``Table 1`` or ``Rivals``."""
    return name.replace("table", "Table ") if name.startswith("table") else name.capitalize()


def table_sheets(results: Results, table: ResultTable) -> list[Sheet]:
    """Create the sheets of a table: scores, comparisons, controls and costs."""
    kind = results.window_kind
    sheets = score_sheet(table, kind), *comparison_sheets(table, kind), control_sheet(table, kind)
    return [sheet for sheet in (*sheets, cost_sheet(table)) if sheet]


def detail_sheets(results: Results) -> list[Sheet]:
    """Create the sheets by category and by history length, if there are systems to compare, and of provenance."""
    return [
        sheet for sheet in (category_sheet(results), history_sheet(results), origin_sheet(results)) if sheet
    ]


def score_sheet(table: ResultTable, kind: WindowKind) -> Sheet:
    """Create the sheet of scores: the paper's, ours, and the difference, one row per system and size."""
    header = [
        "",
        "size",
        "paper",
        "ours, a part is seen",
        "all is seen",
        "all users",
        "difference",
        "disliked F1",
        "both F1",
    ]
    rows = [
        [row.name, "" if size == REFERENCE else size, *_scores(row, size)]
        for row in (*table.rows, *table.beside)
        for size in ((REFERENCE,) if REFERENCE in row.ours else dict.fromkeys([*row.ours, *row.paper]))
    ]
    return Sheet(f"Weighted precision / recall / F1 of the liked categories, {kind} windows", header, rows)


def comparison_sheets(table: ResultTable, kind: WindowKind) -> list[Sheet]:
    """Create a sheet of pairwise differences for each size with at least two rows."""
    sheets = []
    for size, pairs in table.comparisons.items():
        if not pairs:
            continue
        names = list(dict.fromkeys(name for one in pairs for name in (one.first, one.second)))
        known = {(one.first, one.second): one for one in pairs}
        rows = [
            [f"{number}. {name}", *(_difference(known, name, other) for other in names)]
            for number, name in enumerate(names, start=1)
        ]
        title = f"Liked F1 of the row less that of the column, {kind} windows, {size}; * holds (p < .05, corrected)"
        sheets.append(Sheet(title, ["", *(f"{number}." for number in range(1, len(names) + 1))], rows))
    return sheets


def origin_sheet(results: Results) -> Sheet | None:
    """Create the sheet of commit, recipe and data of each cell; None without cells."""
    rows = [
        [
            one.name,
            str(one.seed),
            (one.commit or "no commit")[:9],
            _short(one.recipe_digest),
            _short(one.data_fingerprint),
            f"{one.steps:,}",
            one.device or "",
        ]
        for one in results.cells
    ]
    header = ["cell", "seed", "commit", "recipe", "data", "steps", "device"]
    return Sheet("Where the figures come from", header, rows) if rows else None


def cost_sheet(table: ResultTable) -> Sheet | None:
    """Create the sheet of costs; None if nothing was trained."""
    header = [
        "",
        "size",
        "parameters",
        "input vectors",
        "multiply-adds an answer",
        "an answer",
        "memory to answer",
        "multiply-adds a training step",
        "windows learned from",
        "training",
        "processor time",
        "memory to train",
    ]
    rows = [[row.name, size, *_cost(one)] for row, size, one in _measured(table) if one.answer is not None]
    return Sheet("What it costs", header, rows) if rows else None


def control_sheet(table: ResultTable, kind: WindowKind) -> Sheet | None:
    """Create the sheet of controls; None without a model."""
    controlled = [(row, size, one) for row, size, one in _measured(table) if one.controls]
    names = list(dict.fromkeys(name for _, _, one in controlled for name in one.controls))
    rows = [
        [
            row.name,
            size,
            f"{one.own:.3f}",
            *(f"{one.controls[name].f1:.3f}" if name in one.controls else "" for name in names),
            "" if one.floor is None else f"{one.floor:.3f}",
            NOT_LEARNED if one.reads_the_user is False else "",
        ]
        for row, size, one in controlled
    ]
    header = ["", "size", "own history", *names, "floor", "verdict"]
    title = f"Liked F1 with the user's own history, and with a wrong one, {kind} windows"
    return Sheet(title, header, rows) if rows else None


def category_sheet(results: Results) -> Sheet | None:
    """Create the sheet of liked F1 by category, most liked first; None without Table 1."""
    columns = compared(results)
    if not columns:
        return None
    names = sorted(results.categories, key=lambda name: -results.categories[name])
    rows = [
        [
            name,
            f"{results.categories[name]:,}",
            *(f"{one.per_category[name]:.3f}" for one in columns.values()),
        ]
        for name in names
    ]
    return Sheet("Liked F1 by category", ["category", "users", *columns], rows)


def history_sheet(results: Results) -> Sheet | None:
    """Create the sheet of liked F1 by length of the full history; None without Table 1."""
    columns = compared(results)
    if not columns:
        return None
    groups = next(iter(columns.values())).by_history
    rows = [
        [
            f"{group.shortest:,} to {group.longest:,}",
            f"{group.users:,}",
            *(f"{one.by_history[index].liked_f1:.3f}" for one in columns.values()),
        ]
        for index, group in enumerate(groups)
    ]
    return Sheet(
        "Liked F1 by the length of the user's full history", ["interactions", "users", *columns], rows
    )


def compared(results: Results) -> dict[str, Measured]:
    """List the measurements of the compared systems, in their smallest size."""
    table = results.tables.get("table1")
    rows = {row.name: row for row in (*table.rows, *table.beside)} if table else {}
    found = {name: next(iter(rows[name].ours.values()), None) for name in COMPARED if name in rows}
    return {name: one for name, one in found.items() if one is not None}


def summary(results: Results) -> str:
    """Format data, users, machine and versions in one line."""
    machine, versions = results.machine, results.versions
    measured = (one for table in results.tables.values() for _, _, one in _measured(table))
    devices = sorted({one.device for one in measured if one.device is not None})
    return (
        f"Preset {results.preset}, {results.dataset} ({results.data_fingerprint[:19]}), {results.users:,} test "
        f"users, {results.window_kind} windows. {machine.processor}, {machine.cores} cores"
        + (f", {machine.gpu}" if machine.gpu else "")
        + (f"; computed on {', '.join(devices)}" if devices else "")
        + f"; palate {versions.get('palate', '?')} ({(results.commit or 'no commit')[:9]}), "
        + f"torch {versions.get('torch')}."
    )


def _measured(table: ResultTable) -> Iterator[tuple[ResultRow, str, Measured]]:
    for row in (*table.rows, *table.beside):
        for size, one in row.ours.items():
            yield row, size, one


def _scores(row: ResultRow, size: str) -> list[str]:
    paper = row.paper.get("base" if size == REFERENCE else size)
    ours = row.ours.get(size)
    told = _slashed(paper) if paper else ""
    if ours is None:
        return [told, "not measured", *[""] * 5]
    spread = "" if ours.f1_deviation is None else f" ± {ours.f1_deviation:.3f}"
    return [
        told,
        _with_interval(ours.partly),
        _with_interval(ours.whole),
        _with_interval(ours.everybody) + spread,
        f"{ours.liked[2] - paper[2]:+.3f}" if paper else "",
        f"{ours.shown.disliked_f1:.3f}",
        f"{ours.shown.joint_f1:.3f}",
    ]


def _with_interval(scores: GroupScores | None) -> str:
    """Format the scores of a group of users; a dash where there are none."""
    if scores is None:
        return "–"
    liked = scores.liked
    values = liked.precision.value, liked.recall.value, liked.f1.value
    return f"{_slashed(values)} ({liked.f1.low:.2f}–{liked.f1.high:.2f})"


def _slashed(values: Triple) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _difference(known: Mapping[tuple[str, str], PairTest], row: str, column: str) -> str:
    for names, sign in (((row, column), 1), ((column, row), -1)):
        if (one := known.get(names)) is not None:
            return f"{sign * one.difference:+.3f}{'*' if one.corrected < SIGNIFICANT else ''}"
    return ""


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _cost(one: Measured) -> list[str]:
    assert one.answer is not None
    assert one.training is not None
    return [
        f"{(one.parameters or 0) / 1e6:,.1f} M",
        f"{one.answer.input_vectors:,.0f}",
        f"{one.answer.multiply_adds / 1e6:,.1f} M",
        f"{one.answer.milliseconds:,.0f} ms",
        f"{one.answer.memory_gib:.1f} GiB",
        f"{one.training.step_multiply_adds / 1e9:,.1f} G",
        f"{one.training.windows:,}",
        f"{one.training.minutes:,.1f} min",
        f"{one.training.processor_minutes:,.1f} min",
        f"{one.training.memory_gib:.1f} GiB",
    ]
