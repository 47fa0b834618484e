"""Tables about many users that are written in parts, so that an interrupted job goes on, and joined at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from palate.errors import OutputError
from palate.system.engines import ShardEngine, ShardTask
from palate.system.files import check_writable, replacing, write_text
from palate.system.locks import locked

TABLE_ENDINGS = (".parquet", ".csv", ".jsonl")
SETTINGS = "settings.json"


class TablePart(ShardTask[int], Protocol):
    """Writes a part of a table as a Parquet file."""

    @property
    def user_ids(self) -> Sequence[str]:
        """Users of the part."""


def check_table(out: Path, endings: Sequence[str] = TABLE_ENDINGS) -> None:
    """Check early that a table can be written.

    Raises:
        OutputError: There is a file already, the suffix is not known, or the folder cannot be written.
    """
    if out.suffix not in endings:
        raise OutputError(f"{out}: expected a name that ends in {' or '.join(endings)}")
    if out.exists():
        raise OutputError(f"{out} is there already; name a new file, or remove it first")
    check_writable(out.resolve().parent)


def write_parted_table(out: Path, settings: str, write: Callable[[Path], Sequence[Path]]) -> int:
    """Write a table in parts, which lie in a folder beside it until all are there.

    Args:
        out: The table: Parquet, CSV or JSON lines by its suffix.
        settings: What parts of an interrupted table must have been made with to be gone on with.
        write: Writes the parts that are missing from a folder, and returns all in their order.

    Returns:
        The number of rows.

    Raises:
        OutputError: The table cannot be written, or another process writes it.
    """
    parts = out.with_name(f"{out.name}.parts")
    with locked(out):
        check_table(out)
        _begin(parts, settings)
        rows = _joined(list(write(parts.resolve())), out)
        shutil.rmtree(parts)
    return rows


def run_parts(
    engine: ShardEngine, parts: Sequence[TablePart], total: int, progress: Callable[[int, int], None]
) -> None:
    """Write the parts that are missing by an engine; ``progress`` is told the numbers of users."""
    left = [part for part in parts if not part.done]
    done = total - sum(len(part.user_ids) for part in left)
    progress(done, total)
    for users in engine.run(left):
        done += users
        progress(done, total)


def _begin(parts: Path, settings: str) -> None:
    """Keep the parts of an interrupted job of the same settings, and remove those of another."""
    there = parts / SETTINGS
    if parts.exists() and (not there.is_file() or there.read_text(encoding="utf-8") != settings):
        shutil.rmtree(parts)
    if not parts.exists():
        parts.mkdir(parents=True)
        write_text(there, settings)


def _joined(files: list[Path], out: Path) -> int:
    """Join parts into the table; returns its number of rows."""
    with replacing(out) as partial:
        if out.suffix == ".parquet":
            pl.scan_parquet(files).sink_parquet(partial)
        else:
            with partial.open("wb") as file:
                for number, text in enumerate(_texts(files, out.suffix)):
                    file.write(text if number == 0 or out.suffix != ".csv" else text.split(b"\n", 1)[1])
    return int(pl.scan_parquet(files).select(pl.len()).collect().item())


def _texts(files: Sequence[Path], suffix: str) -> Iterator[bytes]:
    for file in files:
        table = pl.read_parquet(file)
        yield (table.write_csv() if suffix == ".csv" else table.write_ndjson()).encode()
