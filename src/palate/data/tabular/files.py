"""Reads CSV, JSON lines, Parquet and sequence files, plain or compressed: several files as one table, in batches."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from palate.data.tabular import csv_files, json_lines
from palate.data.tabular.csv_files import (
    CsvOptions,
    Dialect,
    csv_rows,
    find_dialect,
    looks_like_data,
    read_csv,
)
from palate.data.tabular.json_lines import NESTED, find_fields, json_rows, read_json_lines
from palate.data.tabular.sequences import (
    SEQUENCE_COLUMNS,
    first_skipped_sequence,
    read_sequences,
    sequence_lines,
)
from palate.data.tabular.skipped_rows import SkippedRows
from palate.data.tabular.text_files import broken_file
from palate.errors import DataError

Format: TypeAlias = Literal["csv", "jsonl", "parquet", "sequences"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".txt": "csv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = (".gz", ".zst", ".bz2")
_BATCH = 1 << 17
_PLAIN_CSV = CsvOptions()
_JSON_TYPES = [pl.Boolean(), pl.String(), NESTED, pl.List(pl.String())]
"""Types of JSON fields, ascending; a field with several types has the highest."""
_TEXT = (pl.String, pl.Categorical, pl.Enum)


@dataclass(frozen=True)
class Batch:
    """A batch of rows of one file."""

    path: Path
    table: pl.DataFrame


@dataclass(frozen=True)
class RowFiles:
    """Files of one format, concatenated; columns are matched by name."""

    paths: tuple[Path, ...]
    format: Format
    csv: CsvOptions = _PLAIN_CSV
    skip_bad_rows: bool = False
    """Skip rows that cannot be split into fields."""

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """Types of the named columns of the first file, or of the fields of all JSON lines.

        CSV columns are text; JSON fields are booleans, lists, objects (:data:`NESTED`) or text.
        """
        if self.format == "csv":
            return {name: pl.String() for name in self._dialect(self.paths[0]).columns if name}
        if self.format == "sequences":
            return {name: pl.String() for name in SEQUENCE_COLUMNS}
        if self.format == "parquet":
            return _parquet_schema(self.paths[0])
        fields: dict[str, pl.DataType] = {}
        for path in self.paths:
            for name, dtype in find_fields(path, self._skipped()).items():
                known = fields.setdefault(name, dtype)
                fields[name] = max(known, dtype, key=_JSON_TYPES.index)
        return fields

    @property
    def first_line_looks_like_data(self) -> bool:
        """Whether the header line contains numbers or dates, which means that there is none."""
        if self.format != "csv":
            return False
        dialect = self._dialect(self.paths[0])
        return dialect.has_header and looks_like_data(dialect.columns)

    @property
    def without_header(self) -> list[Path]:
        """The files without a header line, whose columns are named by :attr:`csv`."""
        return [path for path in self.paths if self.format == "csv" and not self._dialect(path).has_header]

    def no_header(self, advice: str = "") -> DataError:
        """Create the error for data in place of a header line."""
        return DataError(
            f"the first line contains data, not column names: {', '.join(map(repr, self.schema))}; "
            f"{advice and advice + ', or '}add a header line with the names",
            self.paths[0],
        )

    def batches(self, columns: Sequence[str], skipped: SkippedRows | None = None) -> Iterator[Batch]:
        """Yield all rows in file order.

        Args:
            columns: Columns of :attr:`schema` to read.
            skipped: Counter of skipped rows.

        Raises:
            DataError: A row cannot be parsed, or a column is missing or has another type in one of the files.
        """
        self._check_columns(columns)
        skipped = skipped or self._skipped()
        for path in self.paths:
            for table in self._tables(path, columns, skipped):
                yield Batch(path, table)

    def read(
        self, columns: Sequence[str], convert: Callable[[Batch], pl.DataFrame], max_rows: int | None = None
    ) -> tuple[pl.DataFrame, int]:
        """Read all rows, or the first ``max_rows``, converting each batch as it is read.

        Args:
            columns: Columns of :attr:`schema` to read.
            convert: Converts a batch; the result has the same columns and types for every batch.
            max_rows: Maximum number of rows; None for all.

        Returns:
            The converted rows, and the number of rows skipped because they cannot be split into fields.

        Raises:
            DataError: As :meth:`batches`.
        """
        skipped, parts, rows = self._skipped(), list[pl.DataFrame](), 0
        for batch in self.batches(columns, skipped):
            parts.append(convert(batch))
            rows += len(batch.table)
            if max_rows is not None and rows >= max_rows:
                break
        if not parts:
            empty = pl.DataFrame(schema={name: self.schema[name] for name in columns})
            parts.append(convert(Batch(self.paths[0], empty)))
        table = pl.concat(parts)
        return table if max_rows is None else table.head(max_rows), skipped.count

    def row(self, number: int, columns: Sequence[str]) -> dict[str, object]:
        """Return the values of a row by its number in :meth:`batches`, from 0."""
        for batch in self.batches(columns):
            if number < len(batch.table):
                return batch.table.row(number, named=True)
            number -= len(batch.table)
        raise IndexError(number)

    def line_of(self, number: int) -> tuple[Path, int | None]:
        """Return the file and the first line of a row of :meth:`batches`; no line if the format has none."""
        for path in self.paths:
            if self.format == "parquet":
                rows = pa.parquet.read_metadata(path).num_rows
                if number < rows:
                    return path, None
                number -= rows
            for line in self._lines(path):
                if number == 0:
                    return path, line
                number -= 1
        return self.paths[-1], None

    def first_skipped(self) -> DataError | None:
        """Return the error of the first row skipped because it cannot be split into fields; None if there is none."""
        for path in self.paths:
            if self.format == "csv":
                error = csv_files.first_skipped_row(path, self._dialect(path))
            elif self.format == "sequences":
                error = first_skipped_sequence(path)
            else:
                error = json_lines.first_skipped_line(path)
            if error is not None:
                return error
        return None

    def first_nested(self, column: str) -> tuple[Path, int | None]:
        """Return the file and line where a JSON field first holds a list or an object."""
        for path in self.paths if self.format == "jsonl" else ():
            line = json_lines.first_nested(path, column, self._skipped())
            if line is not None:
                return path, line
        return self.paths[0], None

    def _skipped(self) -> SkippedRows:
        return SkippedRows(self.skip_bad_rows)

    def _dialect(self, path: Path) -> Dialect:
        return self._dialects[path]

    @cached_property
    def _dialects(self) -> Mapping[Path, Dialect]:
        return {path: find_dialect(path, self.csv) for path in self.paths}

    def _tables(self, path: Path, columns: Sequence[str], skipped: SkippedRows) -> Iterator[pl.DataFrame]:
        if self.format == "csv":
            return read_csv(path, self._dialect(path), columns, skipped)
        if self.format == "jsonl":
            return read_json_lines(path, {name: self.schema[name] for name in columns}, skipped)
        if self.format == "sequences":
            return read_sequences(path, columns, skipped)
        return _read_parquet(path, columns)

    def _lines(self, path: Path) -> Iterator[int]:
        if self.format == "csv":
            yield from (line for line, _ in csv_rows(path, self._dialect(path), self._skipped()))
        elif self.format == "jsonl":
            yield from (line for line, _ in json_rows(path, self._skipped()))
        elif self.format == "sequences":
            yield from (line for line, _, items in sequence_lines(path, self._skipped()) for _ in items)

    def _check_columns(self, columns: Sequence[str]) -> None:
        """Raise :class:`DataError` for a file in which a column is missing or has another type."""
        for path in self.paths[1:] if self.format in ("csv", "parquet") else ():
            here = RowFiles((path,), self.format, self.csv).schema
            for name in columns:
                if name not in here:
                    raise DataError(
                        f"no column {name!r} as in {self.paths[0].name}; there are {', '.join(map(repr, here))}",
                        path,
                    )
                if _family(here[name]) != _family(self.schema[name]):
                    raise DataError(
                        f"column {name!r} has type {here[name]}, but {self.schema[name]} in {self.paths[0].name}; "
                        "write both with the same type",
                        path,
                    )


def find_row_files(
    sources: Sequence[str | Path],
    csv: CsvOptions = _PLAIN_CSV,
    skip_bad_rows: bool = False,
    given: Format | None = None,
) -> RowFiles:
    """Find files by path or pattern.

    Args:
        sources: Paths, or patterns with ``*``, ``?`` or ``[]``. The name of an existing file is never a pattern.
        csv: Options for CSV files.
        skip_bad_rows: Skip rows that cannot be split into fields.
        given: Format of the files; inferred from their extensions if None.

    Returns:
        The distinct files in the order of the sources, those of a pattern sorted by name.

    Raises:
        DataError: A file does not exist, is empty, is a folder, or has another format than the first.
    """
    paths = [path for source in sources for path in _found(source)]
    formats = {path: given or format_of(path) for path in paths}
    for path, form in formats.items():
        if path.is_dir():
            raise DataError(f"is a folder; name the files in it, like '{path}/*.csv' in quotes", path)
        if form is None:
            raise DataError(f"expected a file that ends in {', '.join(_FORMATS)}, or those with .gz", path)
        if form != formats[paths[0]]:
            raise DataError(f"is {form}, but {paths[0].name} is {formats[paths[0]]}; give one format", path)
        if path.stat().st_size == 0:
            raise DataError("the file is empty", path)
    first = formats[paths[0]]
    assert first is not None
    return RowFiles(tuple(dict.fromkeys(paths)), first, csv, skip_bad_rows)


def format_of(source: str | Path) -> Format | None:
    """Return the format by the file extension, or None."""
    name = Path(source).name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return _FORMATS.get(Path(name).suffix)


def expanded(path: str | Path) -> Path:
    """Expand a leading ``~`` or ``~user`` to that user's home folder, if there is one."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such user


def _found(source: str | Path) -> list[Path]:
    path = expanded(source)
    if path.exists():
        return [path]
    if path.is_symlink():
        raise DataError(f"is a link to {path.readlink()}, which does not exist", path)
    found = [Path(one) for one in sorted(glob.glob(str(path)))]  # noqa: PTH207 - an absolute pattern is one, too
    if not found:
        raise DataError("no such file, and no file matches it as a pattern", source)
    return found


def _parquet_schema(path: Path) -> dict[str, pl.DataType]:
    try:
        schema = pa.parquet.read_schema(path)
        return dict(pl.DataFrame(pl.from_arrow(schema.empty_table())).schema)
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise _damaged(path, error) from error


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=list(columns)):
                yield pl.DataFrame(pl.from_arrow(batch)).select(columns)
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return broken_file(path, error)
    reason = str(error).strip().splitlines()[0]
    return DataError(f"cannot be read as Parquet: {reason}; copy or write the file again", path)


def _family(dtype: pl.DataType) -> str:
    """Return the family of a type; types of one family are interchangeable as ids, ratings or times."""
    if dtype in _TEXT:
        return "text"
    if dtype.is_temporal():
        return "dates"
    if dtype == pl.UInt64 or dtype.is_decimal():  # cannot be combined with other numbers without loss
        return str(dtype)
    return "numbers" if dtype.is_numeric() else str(dtype)
