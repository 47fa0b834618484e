"""Reads sequence files: each line has a user and the user's items, oldest first, separated by blanks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from palate.data.tabular.skipped_rows import SkippedRows
from palate.data.tabular.text_files import check_text, text_lines
from palate.errors import DataError

USER, ITEM = "user_id", "item_id"
SEQUENCE_COLUMNS = (USER, ITEM)
"""Columns of the rows of a sequence file; each item of a line is one row."""
_BATCH = 10_000


def sequence_lines(path: Path, skipped: SkippedRows) -> Iterator[tuple[int, str, list[str]]]:
    """Yield each line's number, user and items; blank lines are ignored.

    Raises:
        DataError: A line has no items or is not text, and may not be skipped.
    """
    for number, line in enumerate(text_lines(path), 1):
        try:
            check_text(line, path, number)
            fields = line.split()
            if len(fields) == 1:
                raise DataError(
                    f"found {fields[0][:40]!r} alone, expected a user and at least one item, separated by blanks",
                    path,
                    number,
                )
        except DataError:
            if skipped.may_skip():
                continue
            raise
        if fields:
            yield number, fields[0], fields[1:]


def read_sequences(path: Path, columns: Sequence[str], skipped: SkippedRows) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file in batches: one row per item, in file order.

    Args:
        path: The file, plain or compressed.
        columns: Those of :data:`SEQUENCE_COLUMNS` to read.
        skipped: Whether invalid lines may be skipped; counts them.

    Raises:
        DataError: A line is invalid and may not be skipped.
    """
    lines = sequence_lines(path, skipped)
    while batch := list(islice(lines, _BATCH)):
        table = pl.DataFrame(
            {USER: [user for _, user, _ in batch], ITEM: [items for _, _, items in batch]},
            schema={USER: pl.String(), ITEM: pl.List(pl.String())},
        )
        yield table.explode(ITEM).select(columns)


def first_skipped_sequence(path: Path) -> DataError | None:
    """Return the error of the first line that :func:`read_sequences` skips; None if it skips none."""
    try:
        for _ in sequence_lines(path, SkippedRows(allowed=False)):
            pass
    except DataError as error:
        return error
    return None
