"""Files of rows: CSV, JSON lines and Parquet, compressed or not, several of them as one lazy table."""

from __future__ import annotations

import csv
import glob
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import polars as pl

from palate.errors import DataError

Format = Literal["csv", "jsonl", "parquet"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = (".gz", ".zst")
_SEPARATORS = ",\t;|"
_SAMPLE = 1000
_LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class RowFiles:
    """Files of one format and the same columns, read one after the other."""

    paths: tuple[Path, ...]
    format: Format

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns of the first file. CSV has text only; of JSON lines, lists stay lists and all else is text."""
        if self.format == "jsonl":
            return self._json_schema()
        try:
            return dict(self.scan().collect_schema())
        except (pl.exceptions.PolarsError, OSError) as error:
            self._raise_for_first_bad_line(error)

    def scan(self) -> pl.LazyFrame:
        """All rows in the order of the files, with the columns of :attr:`schema`."""
        if self.format == "csv":
            return pl.scan_csv(list(self.paths), separator=self._separator(self.paths[0]), infer_schema=False)
        if self.format == "jsonl":
            return pl.scan_ndjson(list(self.paths), schema=self.schema)
        return pl.scan_parquet(list(self.paths))

    def collect(self, table: pl.LazyFrame) -> pl.DataFrame:
        """What a query over :meth:`scan` gives; raises :class:`DataError` with the line that cannot be read."""
        for path in self.paths[1:]:
            self._check_columns(path)
        return self._collect(table)

    def line_of(self, row: int) -> tuple[Path, int | None]:
        """The file and, where the format has lines, the line of a row of :meth:`scan`."""
        for path in self.paths:
            if self.format == "parquet":
                rows = int(pl.scan_parquet(path).select(pl.len()).collect().item())
                if row < rows:
                    return path, None
                row -= rows
            else:
                for line, _ in self._records(path):
                    if row == 0:
                        return path, line
                    row -= 1
        return self.paths[-1], None

    def _json_schema(self) -> dict[str, pl.DataType]:
        """The fields of the first objects; one that is ever a list is taken for a list."""
        schema: dict[str, pl.DataType] = {}
        for _, record in islice(self._records(self.paths[0]), _SAMPLE):
            for name, value in record.items():
                if isinstance(value, list):
                    schema[name] = pl.List(pl.String())
                else:
                    schema.setdefault(name, pl.String())
        return schema

    def _collect(self, table: pl.LazyFrame) -> pl.DataFrame:
        try:
            return table.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            self._raise_for_first_bad_line(error)

    def _check_columns(self, path: Path) -> None:
        """CSV and Parquet files are read by the columns of the first."""
        if self.format == "jsonl":
            return
        here, first = (set(RowFiles((one,), self.format).schema) for one in (path, self.paths[0]))
        if here != first:
            odd = sorted(here ^ first)[0]
            raise DataError(f"column {odd!r} is only in one of it and {self.paths[0].name}", path)

    def _separator(self, path: Path) -> str:
        with _open(path) as file:
            header = file.readline().decode("utf-8-sig", errors="replace")
        if not header.strip():
            raise DataError("the file is empty; a header line with the columns' names is expected", path)
        return max(_SEPARATORS, key=header.count)

    def _raise_for_first_bad_line(self, error: Exception) -> NoReturn:
        for path in self.paths if self.format != "parquet" else ():
            width = None
            for line, record in self._records(path):
                if self.format == "csv":
                    width = width or len(self._header(path))
                    if len(record) > width:
                        raise DataError(
                            f"{len(record)} fields where the header has {width}", path, line
                        ) from error
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"cannot be read as {self.format}: {reason}", self.paths[0]) from error

    def _header(self, path: Path) -> list[str]:
        with _open(path) as file:
            line = file.readline().decode("utf-8-sig", errors="replace")
        return next(csv.reader([line], delimiter=self._separator(path)))

    def _records(self, path: Path) -> Iterator[tuple[int, Any]]:
        """The rows of one file as polars counts them, with the line that each ends on."""
        with _open(path) as file:
            lines = _decoded(file, path)
            if self.format == "jsonl":
                for number, text in enumerate(lines, 1):
                    if text.strip():
                        yield number, _json(text, path, number)
                return
            csv.field_size_limit(_LONGEST_FIELD)
            rows = csv.reader(lines, delimiter=self._separator(path))
            try:
                next(rows, None)
                for row in rows:
                    yield rows.line_num, row
            except csv.Error as error:
                raise DataError(f"not well-formed CSV: {error}", path, rows.line_num) from error


def find_row_files(sources: Sequence[str | Path]) -> RowFiles:
    """Files by path or glob; raises :class:`DataError` for none, or for files of several formats."""
    paths: list[Path] = []
    for source in sources:
        found = (
            [Path(source)] if Path(source).exists() else [Path(one) for one in sorted(glob.glob(str(source)))]  # noqa: PTH207 - an absolute pattern is one, too
        )
        if not found:
            raise DataError("no such file, and no file that fits it as a pattern", source)
        paths += found
    formats = {path: format_of(path) for path in paths}
    for path, form in formats.items():
        if form is None:
            raise DataError(f"expected a file that ends in {', '.join(_FORMATS)}, or those with .gz", path)
        if form != formats[paths[0]]:
            raise DataError(f"is {form}, but {paths[0].name} is {formats[paths[0]]}; give one format", path)
        if path.stat().st_size == 0:
            raise DataError("the file is empty", path)
    first = formats[paths[0]]
    assert first is not None
    return RowFiles(tuple(dict.fromkeys(paths)), first)


def format_of(source: str | Path) -> Format | None:
    """The format that a name ends in, or None."""
    name = Path(source).name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return _FORMATS.get(Path(name).suffix)


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".zst":
        raise DataError("a line of it cannot be read; unpack the file to learn which", path)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _decoded(file: IO[bytes], path: Path) -> Iterator[str]:
    try:
        for number, line in enumerate(file, 1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise DataError(
            "the line holds bytes that are not UTF-8 text; save the file as UTF-8", path, number
        ) from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"not a complete gzip file ({error}); copy it again", path) from error


def _json(text: str, path: Path, line: int) -> Any:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", path, line) from error
    if not isinstance(found, dict):
        raise DataError('expected an object, like {"user_id": 1, "item_id": 2}', path, line)
    return found
