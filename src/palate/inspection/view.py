"""Views of an inspected dataset: tables for the terminal, and a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from palate.errors import OutputError
from palate.inspection.inspect import QUANTILES, Inspection, LabelFacts
from palate.report.build import render_page
from palate.report.fitted import Bars, Column, fitted_table
from palate.report.pictures import NARROW, WIDE, Chart, Picture, Series, draw
from palate.system.files import write_text
from palate.words import counted

_MOST_ROWS = 20
_LABEL = 24
"""Maximum width of the first column of a table of texts, in terminal columns."""


def facts(inspection: Inspection) -> dict[str, str]:
    """Format counts and coverage as texts, by heading."""
    info = inspection.info
    lengths = ", ".join(
        f"{length:,} ({_quantile(at)})" for at, length in zip(QUANTILES, inspection.lengths, strict=True)
    )
    splits = ", ".join(f"{size:,} {split}" for split, size in info.split_sizes.items())
    dropped = ", ".join(
        f"{count:,} {reason.replace('_', ' ')}" for reason, count in info.report.items() if count
    )
    reviews = {}
    if info.reviewed_interactions:
        reviews["Review texts"] = (
            f"of {info.reviewed_interactions / info.interactions:.1%} of the interactions"
        )
    types = {} if info.event_types is None else {"Event types": info.event_types.in_words}
    return {
        "Source": info.source,
        "Feedback": info.feedback,
        **types,
        "Interactions": f"{info.interactions:,}, "
        + (inspection.period or "without timestamps, in the order of the files"),
        "Users": f"{info.users:,}: {splits}",
        "Items": f"{counted(info.items, info.item_noun)} in {counted(len(info.categories), info.category_field)}",
        "History length": f"mean {inspection.mean_length:.1f}; {lengths}",
        "Descriptions": f"of {info.described_items / max(info.items, 1):.1%} of the items, "
        f"{inspection.described_interactions:.1%} of the interactions",
        **reviews,
        f"Without a {info.category_field}": f"{inspection.uncategorised_interactions:.1%} of the interactions",
        **_label_facts(inspection),
        "Dropped or repaired": dropped or "nothing",
    }


def _label_facts(inspection: Inspection) -> dict[str, str]:
    if (labels := inspection.labels) is None:
        few = f"not possible: expected at least 2 categories, found {len(inspection.info.categories)}"
        return {"Questions about categories": f"{few}; the items can be ranked and recommended"}
    return {"Label rule": labels.rule, "Users without a label": f"{labels.without_label:.1%}"}


def tables(inspection: Inspection, width: int) -> Iterator[Table]:
    """Yield the tables for a terminal of ``width`` columns."""
    yield _rows_of([(name, value) for name, value in facts(inspection).items()], inspection.info.name)
    if inspection.valued:
        yield _value_table(inspection, width)
    if inspection.labels is not None:
        yield _category_table(inspection, inspection.labels, width)
        yield _rule_table(inspection, inspection.labels, width)
    texts = [(f"{one.item_id}", f"{one.title}\n{one.description}".strip()) for one in inspection.items]
    yield _rows_of(texts, "The most popular items, as the item encoder reads them")
    for user in inspection.users:
        newest = "\n".join(
            f"{value:g}  {title}" if inspection.valued else title for value, title in user.newest
        )
        rows = [("newest", newest), *([("truth", user.truth)] if user.truth is not None else [])]
        yield _rows_of(rows, f"User {user.user_id} ({user.split}): {user.length:,} interactions")


def write_dataset_page(inspection: Inspection, path: Path) -> None:
    """Write the HTML page; raises :class:`OutputError` for a file name that does not end in .html."""
    if path.suffix != ".html":
        raise OutputError(f"{path}: expected a file name ending in .html")
    page = render_page(
        "dataset.html",
        title=inspection.info.name,
        it=inspection,
        facts=facts(inspection),
        rule_notes=[] if inspection.labels is None else list(rule_notes(inspection.labels)),
        pictures=_length_pictures(inspection),
    )
    write_text(path, page)


def _length_pictures(inspection: Inspection) -> list[Picture]:
    lengths, shares = zip(*inspection.longer, strict=True)
    series = [Series("users", "model-1", lengths, shares, dots=False)]
    chart = Chart("Share of users with at least n interactions", "n (log scale)", series, log_x=True)
    return [draw(chart, WIDE), draw(chart, NARROW)] if len(lengths) > 1 else []


def _value_table(inspection: Inspection, width: int) -> Table:
    rows = inspection.values
    title = "Ratings" if inspection.info.feedback == "ratings" else "Weights"
    return fitted_table(
        title,
        Column("value", [f"{row.value:g}" for row in rows]),
        [
            Column("interactions", [f"{row.interactions:,}" for row in rows]),
            Bars([row.share for row in rows]),
            Column("share", [f"{row.share:.1%}" for row in rows]),
        ],
        width,
    )


def _category_table(inspection: Inspection, labels: LabelFacts, width: int) -> Table:
    rows = labels.categories[:_MOST_ROWS]
    mean = "mean\nrating" if inspection.info.feedback == "ratings" else "mean\nweight"
    means = [Column(mean, [f"{row.mean:.2f}" for row in rows])] if inspection.valued else []
    table = fitted_table(
        "Categories",
        Column(inspection.info.category_field, [row.name for row in rows]),
        [
            Column("items", [f"{row.items:,}" for row in rows], needed=False),
            Column("interactions", [f"{row.interactions:,}" for row in rows]),
            Bars([row.share for row in rows]),
            Column("share", [f"{row.share:.1%}" for row in rows], needed=False),
            *means,
            Column("liked\nby", [f"{row.liked:,}" for row in rows]),
            Column("disliked\nby", [f"{row.disliked:,}" for row in rows]),
        ],
        width,
    )
    if (more := len(labels.categories) - _MOST_ROWS) > 0:
        table.caption = f"and {more} more"
    return table


def _rule_table(inspection: Inspection, labels: LabelFacts, width: int) -> Table:
    rows = labels.rules
    names = [f"{row.rule} *" if row.rule == inspection.info.rule else row.rule for row in rows]
    field = inspection.info.category_field
    table = fitted_table(
        "Label rules",
        Column("rule", names),
        [
            Column(f"users with a\nliked {field}", [f"{row.liked_users:.1%}" for row in rows]),
            Column(f"users with a\ndisliked {field}", [f"{row.disliked_users:.1%}" for row in rows]),
            Column("liked\nper user", [f"{row.liked:.2f}" for row in rows]),
            Column("disliked\nper user", [f"{row.disliked:.2f}" for row in rows]),
        ],
        width,
    )
    table.caption = " ".join(rule_notes(labels))
    table.caption_justify = "left"
    return table


def rule_notes(labels: LabelFacts) -> Iterator[str]:
    """Describe each label rule of the table, and the suggested one."""
    yield "Shares of the training users; * marks the dataset's rule."
    yield from (f"{row.in_words}." for row in labels.rules)
    if labels.proposal is not None:
        yield f"{labels.proposal[0].upper()}{labels.proposal[1:]}."


def _rows_of(rows: list[tuple[str, str]], title: str) -> Table:
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_header=False
    )
    table.add_column(style="dim", overflow="fold", max_width=_LABEL)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _quantile(at: float) -> str:
    return {0.0: "shortest", 0.5: "median", 1.0: "longest"}.get(at, f"{at:.0%}")
