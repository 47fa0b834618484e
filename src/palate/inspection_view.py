"""An inspected dataset as tables for the terminal, and as one HTML page without any outside host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from palate.errors import OutputError
from palate.files import write_text
from palate.inspection import QUANTILES, Inspection
from palate.report.build import render_page
from palate.report.pictures import NARROW, WIDE, Chart, Picture, Series, draw
from palate.words import counted

_BAR = 24
_MOST_ROWS = 20


def facts(inspection: Inspection) -> dict[str, str]:
    """Counts and coverage, by what they are called."""
    info = inspection.info
    lengths = ", ".join(
        f"{length:,} ({_quantile(at)})" for at, length in zip(QUANTILES, inspection.lengths, strict=True)
    )
    rule = (
        "mean rating"
        if info.feedback == "ratings"
        else "share of the history, over the training users' share,"
    )
    splits = ", ".join(f"{size:,} {split}" for split, size in info.split_sizes.items())
    dropped = ", ".join(
        f"{count:,} {reason.replace('_', ' ')}" for reason, count in info.report.items() if count
    )
    return {
        "Source": info.source,
        "Feedback": info.feedback,
        "Interactions": f"{info.interactions:,}, {inspection.period}",
        "Users": f"{info.users:,}: {splits}",
        "Items": f"{counted(info.items, info.item_noun)} in {counted(len(info.categories), info.category_field)}",
        "History length": f"{inspection.mean_length:.1f} in the mean; {lengths}",
        "Descriptions": f"of {info.described_items / max(info.items, 1):.1%} of the items, "
        f"{inspection.described_interactions:.1%} of the interactions",
        f"Without a {info.category_field}": f"{inspection.uncategorised_interactions:.1%} of the interactions",
        "Label rule": f"liked: {rule} above {info.like_above:g}; disliked: below {info.dislike_below:g}",
        "Users without a label": f"{inspection.without_label:.1%}",
        "Dropped or repaired": dropped or "nothing",
    }


def tables(inspection: Inspection) -> Iterator[Table]:
    """What the terminal shows, one table after the other."""
    yield _rows_of([(name, value) for name, value in facts(inspection).items()], inspection.info.name)
    if inspection.valued:
        yield _value_table(inspection)
    yield _category_table(inspection)
    texts = [(f"{one.item_id}", f"{one.title}\n{one.description}".strip()) for one in inspection.items]
    yield _rows_of(texts, "The most popular items, as the item encoder reads them")
    for user in inspection.users:
        newest = "\n".join(
            f"{value:g}  {title}" if inspection.valued else title for value, title in user.newest
        )
        rows = [("newest", newest), ("truth", user.truth)]
        yield _rows_of(rows, f"User {user.user_id} ({user.split}): {user.length:,} interactions")


def write_page(inspection: Inspection, path: Path) -> None:
    """Write the page; raises :class:`OutputError` for a name that does not end in .html."""
    if path.suffix != ".html":
        raise OutputError(f"{path}: the page's name must end in .html")
    page = render_page(
        "dataset.html",
        title=inspection.info.name,
        it=inspection,
        facts=facts(inspection),
        pictures=_length_pictures(inspection),
    )
    write_text(path, page)


def _length_pictures(inspection: Inspection) -> list[Picture]:
    lengths, shares = zip(*inspection.longer, strict=True)
    series = [Series("users", "model-1", lengths, shares, dots=False)]
    chart = Chart("Share of the users with at least so many", "interactions (log scale)", series, log_x=True)
    return [draw(chart, WIDE), draw(chart, NARROW)] if len(lengths) > 1 else []


def _value_table(inspection: Inspection) -> Table:
    title = "Ratings" if inspection.info.feedback == "ratings" else "Weights"
    table = _table(title, "value", "interactions", "", "share")
    top = max(row.share for row in inspection.values)
    for row in inspection.values:
        table.add_row(f"{row.value:g}", f"{row.interactions:,}", _bar(row.share / top), f"{row.share:.1%}")
    return table


def _category_table(inspection: Inspection) -> Table:
    mean = "mean rating" if inspection.info.feedback == "ratings" else "mean weight"
    means = [mean] if inspection.valued else []
    columns = ("items", "interactions", "", "share", *means, "liked by", "disliked by")
    table = _table("Categories", inspection.info.category_field, *columns)
    top = max((row.share for row in inspection.categories), default=1.0) or 1.0
    for row in inspection.categories[:_MOST_ROWS]:
        counts = (f"{row.items:,}", f"{row.interactions:,}", _bar(row.share / top), f"{row.share:.1%}")
        means = [f"{row.mean:.2f}"] if inspection.valued else []
        table.add_row(row.name, *counts, *means, f"{row.liked:,}", f"{row.disliked:,}")
    if (more := len(inspection.categories) - _MOST_ROWS) > 0:
        table.caption = f"and {more} more"
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _rows_of(rows: list[tuple[str, str]], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _bar(share: float) -> str:
    return "█" * round(share * _BAR)


def _quantile(at: float) -> str:
    return {0.0: "shortest", 0.5: "median", 1.0: "longest"}.get(at, f"{at:.0%}")
