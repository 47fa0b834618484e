"""Markdown document of the results."""

from __future__ import annotations

from collections.abc import Iterator

from palate.reproduce.results import Results
from palate.reproduce.sheets import NOTES, detail_sheets, summary, table_sheets


def as_markdown(results: Results) -> str:
    """Write the document."""
    return "\n\n".join(_parts(results)) + "\n"


def _parts(results: Results) -> Iterator[str]:
    yield "# The paper's tables, rebuilt"
    yield summary(results)
    for name, table in results.tables.items():
        yield f"## Table {name.removeprefix('table')}: {table.title}"
        yield from (f"{sheet.title}:\n\n{sheet.markdown_table()}" for sheet in table_sheets(table))
    for sheet in detail_sheets(results):
        yield f"## {sheet.title}"
        yield sheet.markdown_table()
    yield "## Notes"
    yield from NOTES
