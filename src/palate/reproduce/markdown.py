"""The results as a Markdown document."""

from __future__ import annotations

from collections.abc import Iterator

from palate.reproduce.results import Results
from palate.reproduce.sheets import NOTES, Sheet, detail_sheets, summary, table_sheets


def as_markdown(results: Results) -> str:
    """The whole document."""
    return "\n\n".join(_parts(results)) + "\n"


def _parts(results: Results) -> Iterator[str]:
    yield "# The paper's tables, rebuilt"
    yield summary(results)
    for name, table in results.tables.items():
        yield f"## Table {name.removeprefix('table')}: {table.title}"
        yield from map(_table, table_sheets(table))
    for sheet in detail_sheets(results):
        yield f"## {sheet.caption}"
        yield _table(sheet, captioned=False)
    yield "## Notes"
    yield from NOTES


def _table(sheet: Sheet, captioned: bool = True) -> str:
    lines = [sheet.header, ["---", *["---:"] * (len(sheet.header) - 1)], *sheet.rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{sheet.caption}:\n\n{text}" if captioned else text
