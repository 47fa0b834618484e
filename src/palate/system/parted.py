"""Tables with rows for many users: written in parts, so that an interrupted job resumes, and joined at the end."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from palate.errors import OutputError
from palate.system.engines import ShardEngine
from palate.system.files import check_writable, replacing, write_text
from palate.system.locks import locked

TABLE_ENDINGS = (".parquet", ".csv", ".jsonl")
SETTINGS = "settings.json"


@dataclass(frozen=True, kw_only=True)
class TablePart(ABC):
    """Task that writes one part of a table as a Parquet file, and returns its number of users."""

    user_ids: tuple[str, ...]
    """Users in this part."""
    file: Path

    @property
    def done(self) -> bool:
        """Whether the part is written."""
        return self.file.is_file()

    @abstractmethod
    def run(self) -> int:
        """Write the part; return its number of users."""


def check_table(out: Path, endings: Sequence[str] = TABLE_ENDINGS) -> None:
    """Check that a table can be written, before any work starts.

    Raises:
        OutputError: The file exists, its suffix is unknown, or the folder is not writable.
    """
    if out.suffix not in endings:
        raise OutputError(f"{out}: expected a file name that ends in {' or '.join(endings)}")
    if out.exists():
        raise OutputError(f"{out} already exists; name a new file, or remove it first")
    check_writable(out.resolve().parent)


def write_parted_table(out: Path, settings: str, write: Callable[[Path], Sequence[Path]]) -> int:
    """Write a table in parts, which are kept in a folder beside it until all are written.

    Args:
        out: Output file: Parquet, CSV or JSON lines by suffix.
        settings: Settings of the job as text; an interrupted job resumes only if they are equal.
        write: Writes the missing parts to a folder, and returns the files of all parts in order.

    Returns:
        The number of rows.

    Raises:
        OutputError: The table cannot be written, or another process is writing it.
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
    """Write the missing parts by an engine; ``progress`` is called with (done, total) in users."""
    left = [part for part in parts if not part.done]
    done = total - sum(len(part.user_ids) for part in left)
    progress(done, total)
    for users in engine.run(left):
        done += users
        progress(done, total)


def _begin(parts: Path, settings: str) -> None:
    """Prepare the parts' folder: keep parts of an interrupted job with equal settings, remove others."""
    there = parts / SETTINGS
    if parts.exists() and (not there.is_file() or there.read_text(encoding="utf-8") != settings):
        shutil.rmtree(parts)
    if not parts.exists():
        parts.mkdir(parents=True)
        write_text(there, settings)


def _joined(files: list[Path], out: Path) -> int:
    """Join the parts into the table; return its number of rows."""
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
