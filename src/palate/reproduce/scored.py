"""Result files of P5's, POD's and PEPLER's cells: ``result.json`` of each cell, and the tables of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from palate.reproduce.cell import RESULT
from palate.system.files import write_text
from palate.system.records import read_record

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palate.report.sheet import Sheet
    from palate.system.records import Frozen

Result = TypeVar("Result", bound="Frozen")


def read_scored(record: type[Result], folder: Path) -> Result | None:
    """Load the result of a cell; None if unfinished. Raises :class:`DataError` if it is damaged."""
    path = folder / RESULT
    if not path.is_file():
        return None
    return read_record(record, path, "the file is missing", "remove it to score the cell again")


def write_scored(results: BaseModel, sheets: Sequence[Sheet], out: Path) -> None:
    """Write ``results.json``, and the tables as ``results.md`` and ``results.tex``."""
    write_text(out / "results.json", results.model_dump_json(indent=2) + "\n")
    write_text(out / "results.md", "\n".join(sheet.markdown() for sheet in sheets))
    write_text(out / "results.tex", "\n".join(sheet.latex() for sheet in sheets))
