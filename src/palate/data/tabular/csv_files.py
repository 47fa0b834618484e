"""Reads CSV files: dialect detection, columns in batches, and line numbers of rows.

The reference is Python's ``csv`` module. Batches are parsed by pyarrow, which has the same rules: a quote opens a
field only at its start, a doubled quote is one quote, and text after a closing quote belongs to the field. (Where two
blocks of 8 MiB meet inside quotes, pyarrow may drop the line feed after a carriage return; readers of the texts treat
both as a blank.) Polars' reader is not used: it splits rows differently when only some columns are requested, and
silently loses rows after a bare quote in any other column.

The number of rows is checked against the number of lines. If there are more lines than rows (line breaks inside
quotes, blank lines), the ``csv`` module parses the file as well: it must find as many rows, and no quoted field that
spans lines and is followed by other text, as when a stray quote swallows the rows up to the next one. Rows with a
wrong number of fields are skipped, if allowed, by the ``csv`` module.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv

from palate.data.tabular.skipped_rows import SkippedRows
from palate.data.tabular.text_files import (
    broken_file,
    check_text,
    chunks,
    count_lines,
    open_stream,
    text_lines,
)
from palate.errors import DataError

_SEPARATORS = ",\t;|"
_TWO_COLONS = "::"
_STAND_IN = "\x1f"
"""ASCII's unit separator, which replaces ``::`` during parsing: parsers accept only one-character separators."""
_BLOCK = 8 << 20
"""Block size of the parser in bytes, which is also the maximum length of a row."""
_BLOCK_SIZES = 1024
"""Number of block sizes tried, up to twice :data:`_BLOCK`; see :func:`_block_size`."""
_SLOW_BATCH = 100_000
_DATA = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|\s*\d{4}-\d\d-\d\d.*")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class CsvOptions:
    """Options for parsing CSV files."""

    columns: tuple[str, ...] = ()
    """Column names of files without a header line; empty if they have one."""
    double_colon_columns: tuple[tuple[str, ...], ...] = ()
    """Column names of ``::``-separated files without a header line; the tuple with the file's number of columns."""
    quotes: bool = True
    """Whether fields may be quoted."""


@dataclass(frozen=True)
class Dialect:
    """Dialect of one file: how it is split into rows and fields."""

    separator: str
    quotes: bool
    columns: tuple[str, ...]
    has_header: bool

    @property
    def delimiter(self) -> str:
        """The one-character separator for parsers."""
        return _STAND_IN if self.separator == _TWO_COLONS else self.separator

    def reader(self, lines: Iterator[str], strict: bool = False) -> Iterator[list[str]]:
        """Split lines as Python's ``csv`` module does."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        if self.separator == _TWO_COLONS:
            lines = (line.replace(_TWO_COLONS, _STAND_IN) for line in lines)
        csv.field_size_limit(_BLOCK)
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=strict)


def looks_like_data(columns: Sequence[str]) -> bool:
    """Return whether a header line contains a number or a date, and therefore is a data row."""
    return any(_DATA.fullmatch(name) for name in columns)


def find_dialect(path: Path, options: CsvOptions) -> Dialect:
    """Detect the dialect of a file from its first non-blank line.

    Args:
        path: The file.
        options: Given column names and quoting.

    Returns:
        The dialect. The name of an unnamed column is ``""``.

    Raises:
        DataError: The file is empty, its header has a duplicate column or is not text, or the number of given columns
            differs.
    """
    line, first = next(((n, one) for n, one in enumerate(text_lines(path), 1) if one.strip()), (0, ""))
    if not first:
        raise DataError("the file is empty; expected a header line with the column names", path)
    check_text(first, path, line)
    if "\0" in first:
        raise DataError(
            "the line contains NUL bytes, as UTF-16 text does; save the file as UTF-8", path, line
        )
    two_colons = first.count(_TWO_COLONS) > 1
    separator = _TWO_COLONS if two_colons else max(_SEPARATORS, key=first.count)
    dialect = Dialect(separator, options.quotes and not two_colons, (), has_header=False)
    _, cells = next(_records(path, dialect))
    if options.columns:
        return _named(dialect, options.columns, cells, path, line)
    if two_colons and looks_like_data(cells):
        names = {len(columns): columns for columns in options.double_colon_columns}.get(len(cells))
        if names is None:
            raise DataError(
                f"{len(cells)} fields separated by '::' and no header line; name them with --columns",
                path,
                line,
            )
        return _named(dialect, names, cells, path, line)
    names = tuple(cell.strip() for cell in cells)
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        advice = "name all columns with --columns" if looks_like_data(names) else "rename one of them"
        raise DataError(f"the header names column {twice!r} more than once; {advice}", path, line)
    return Dialect(separator, dialect.quotes, names, has_header=True)


def _named(dialect: Dialect, names: tuple[str, ...], cells: list[str], path: Path, line: int) -> Dialect:
    if len(names) != len(cells):
        raise DataError(
            f"{len(cells)} fields, but --columns names {len(names)}: {','.join(names)}", path, line
        )
    return Dialect(dialect.separator, dialect.quotes, names, has_header=False)


def read_csv(
    path: Path, dialect: Dialect, wanted: Sequence[str], skipped: SkippedRows
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file in batches.

    Args:
        path: The file.
        dialect: The file's dialect, from :func:`find_dialect`.
        wanted: The columns to read.
        skipped: Whether rows with a wrong number of fields may be skipped; counts them.

    Yields:
        The wanted columns as text, null where a field is empty.

    Raises:
        DataError: A row is invalid (with its line), or an unclosed quote swallowed other rows.
    """
    block = _block_size(path) if dialect.quotes else _BLOCK
    if block is None:
        yield from _read_slowly(path, dialect, wanted, skipped, 0)
        return
    lines = count_lines(path)
    rows, header = 0, dialect.has_header
    names = {str(dialect.columns.index(name)): name for name in wanted}
    try:
        for batch in _open(path, dialect, list(names), block):
            rows += batch.num_rows
            table = pl.DataFrame(pl.from_arrow(batch)).rename(names).select(wanted)
            yield table[1:] if header else table
            header = header and not batch.num_rows
    except OSError as error:
        raise broken_file(path, error) from error
    except pa.ArrowException as error:
        if not skipped.allowed:
            raise _first_fault(path, dialect, error) from error
        yield from _read_slowly(path, dialect, wanted, skipped, rows - (rows > 0 and dialect.has_header))
        return
    if rows != lines:
        _check_rows(path, dialect, rows)


def csv_rows(path: Path, dialect: Dialect, skipped: SkippedRows) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of :func:`read_csv` with the line where each begins; slower.

    Raises:
        DataError: A row has a wrong number of fields and may not be skipped, or an unclosed quote swallowed rows.
    """
    records = _records(path, dialect)
    if dialect.has_header:
        next(records)
    for line, row in records:
        if len(row) == len(dialect.columns):
            yield line, row
        elif not skipped.may_skip():
            raise _wrong_width(path, dialect, line, row)


def first_skipped_row(path: Path, dialect: Dialect) -> DataError | None:
    """Return the error of the first row that :func:`read_csv` skips; None if it skips none."""
    odd = (one for one in _records(path, dialect) if len(one[1]) != len(dialect.columns))
    return next((_wrong_width(path, dialect, line, row) for line, row in odd), None)


def _wrong_width(path: Path, dialect: Dialect, line: int, row: list[str]) -> DataError:
    where = "in the header" if dialect.has_header else "there are columns"
    return DataError(f"found {len(row)} fields, expected {len(dialect.columns)} as {where}", path, line)


def _read_slowly(
    path: Path, dialect: Dialect, wanted: Sequence[str], skipped: SkippedRows, start: int
) -> Iterator[pl.DataFrame]:
    """Yield the rows from ``start`` on, parsed by the ``csv`` module, without rows of a wrong number of fields."""
    places = [dialect.columns.index(name) for name in wanted]
    rows = islice(csv_rows(path, dialect, skipped), start, None)
    while batch := list(islice(rows, _SLOW_BATCH)):
        for line, row in batch:
            check_text("".join(row[at] for at in places), path, line)
        yield pl.DataFrame(
            {name: [row[at] or None for _, row in batch] for name, at in zip(wanted, places, strict=True)},
            schema=dict.fromkeys(wanted, pl.String()),
        )


def _block_size(path: Path) -> int | None:
    """Return a block size for pyarrow at which no block ends inside a CRLF, or None if no size was found.

    pyarrow drops a line feed at the start of a block if the previous block ends with a carriage return, even inside
    quotes. Only files of several gigabytes with quotes and CRLF line ends have no such size.
    """
    sizes = [_BLOCK + at for at in range(0, _BLOCK, _BLOCK // _BLOCK_SIZES | 1)]
    begin, last, quotes = 0, b"", False
    for chunk in chunks(path):
        end, text = begin + len(chunk), last + chunk
        if b"\r\n" in text:
            start = begin - len(last)
            sizes = [
                size
                for size in sizes
                if all(
                    text[edge - start - 1 : edge - start + 1] != b"\r\n"
                    for edge in range(max(-(-begin // size), 1) * size, end, size)
                )
            ]
        quotes = quotes or b'"' in chunk
        begin, last = end, chunk[-1:]
    return next(iter(sizes if quotes else [_BLOCK]), None)


def _open(path: Path, dialect: Dialect, positions: list[str], block: int) -> Iterator[pa.RecordBatch]:
    """Parse the columns at some positions as text.

    pyarrow's threads may outlive an error and must not call Python, which would abort if it exits meanwhile: the
    stream is therefore pyarrow's, and no Python callback handles invalid rows.
    """
    stream = open_stream(path)
    if dialect.separator == _TWO_COLONS:
        stream = pa.BufferReader(stream.read().replace(_TWO_COLONS.encode(), _STAND_IN.encode()))
    return iter(
        pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                block_size=block,
                column_names=[str(n) for n in range(len(dialect.columns))],
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char='"' if dialect.quotes else False,
                newlines_in_values=dialect.quotes,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.string()),
                include_columns=positions,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    )


def _records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield every row with the line where it begins, without blank lines."""
    held: list[str] = []

    def lines() -> Iterator[str]:
        for line in text_lines(path):
            held.append(line)
            yield line

    rows = dialect.reader(lines())
    begin = 1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _unclosed(path, begin, f"not well-formed CSV ({error})") from error
        if len(held) > 1:
            _check_quotes(path, dialect, begin, held, row)
        if row:
            yield begin, row
        begin += len(held)
        held.clear()


def _check_quotes(path: Path, dialect: Dialect, begin: int, lines: list[str], row: list[str]) -> None:
    """Raise :class:`DataError` unless the quotes of a row that spans several lines are valid CSV."""
    try:
        next(dialect.reader(iter(lines), strict=True))
    except csv.Error as error:
        end = begin + len(lines) - 1
        if "end of data" in str(error):
            breaks = len(_LINE_END.findall(row[-1]))
            begin = end - breaks + row[-1].endswith(("\n", "\r"))
            raise _unclosed(path, begin, "a quote opens here and is never closed") from error
        raise _unclosed(
            path, begin, f"a quote opens here and is closed on line {end} with text after it"
        ) from error


def _unclosed(path: Path, line: int, what: str) -> DataError:
    return DataError(
        f"{what}; double a quote that is text and enclose its field in quotes, or read the file with --no-quotes",
        path,
        line,
    )


def _check_rows(path: Path, dialect: Dialect, rows: int) -> None:
    found = sum(1 for _ in _records(path, dialect))
    if found != rows:
        raise DataError(
            f"Python's csv module reads {found:,} rows and pyarrow {rows:,}; save the file again, "
            "or as Parquet",
            path,
        )


def _first_fault(path: Path, dialect: Dialect, error: Exception) -> DataError:
    """Describe the first row that cannot be parsed."""
    for line, row in _records(path, dialect):
        if len(row) != len(dialect.columns):
            return _wrong_width(path, dialect, line, row)
        text = "".join(row)
        check_text(text, path, line)
        if len(text) > _BLOCK // 2:
            return DataError(
                f"the row has {len(text):,} characters, expected at most {_BLOCK // 2:,}", path, line
            )
    return DataError(f"cannot be read as CSV: {str(error).splitlines()[0]}", path)
