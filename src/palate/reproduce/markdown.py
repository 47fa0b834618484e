"""The results as a Markdown document."""

from __future__ import annotations

from collections.abc import Iterator

from palate.reproduce.results import Results
from palate.reproduce.sheets import (
    NOTES,
    Sheet,
    category_sheet,
    control_sheet,
    cost_sheet,
    history_sheet,
    score_sheet,
    summary,
)


def as_markdown(results: Results) -> str:
    """The whole document."""
    return "\n\n".join(_parts(results)) + "\n"


def _parts(results: Results) -> Iterator[str]:
    yield "# The paper's tables, rebuilt"
    yield summary(results)
    for name, table in results.tables.items():
        yield f"## Table {name.removeprefix('table')}: {table.title}"
        for sheet in (score_sheet(table), control_sheet(table), cost_sheet(table)):
            if sheet:
                yield _table(sheet)
    for sheet in (category_sheet(results), history_sheet(results)):
        if sheet:
            yield f"## {sheet.caption}"
            yield _table(sheet, captioned=False)
    yield "## Notes"
    yield from NOTES


def _table(sheet: Sheet, captioned: bool = True) -> str:
    lines = [sheet.header, ["---", *["---:"] * (len(sheet.header) - 1)], *sheet.rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{sheet.caption}:\n\n{text}" if captioned else text
