"""Documents of the results: Markdown, and LaTeX tables for a paper."""

from __future__ import annotations

from collections.abc import Iterator

from palate.reproduce.results import Results
from palate.reproduce.sheets import NOTES, detail_sheets, summary, table_name, table_sheets


def as_markdown(results: Results) -> str:
    """Write the document."""
    return "\n\n".join(_parts(results)) + "\n"


def as_latex(results: Results) -> str:
    """Format each sheet as a tabular with booktabs rules, below a comment with the table's name."""
    parts = [f"% {summary(results)}"]
    for name, table in results.tables.items():
        parts.append(f"% {table_name(name)}: {table.title}")
        parts += [sheet.latex() for sheet in table_sheets(results, table)]
    return "\n".join([*parts, *(sheet.latex() for sheet in detail_sheets(results))])


def _parts(results: Results) -> Iterator[str]:
    yield "# The paper's tables, rebuilt"
    yield summary(results)
    for name, table in results.tables.items():
        yield f"## {table_name(name)}: {table.title}"
        yield from (f"{sheet.title}:\n\n{sheet.markdown_table()}" for sheet in table_sheets(results, table))
    for sheet in detail_sheets(results):
        yield f"## {sheet.title}"
        yield sheet.markdown_table()
    yield "## Notes"
    yield from NOTES
