"""Tables that fit the terminal's width: names stay readable, less important columns are dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 3
"""Columns between two of a table's."""
_WIDEST_BAR, _NARROWEST_BAR = 24, 6
_NAME = 24
"""Width reserved for names before optional columns are shown, in terminal columns."""


@dataclass(frozen=True)
class Column:
    """A column of texts under a heading of up to two lines."""

    head: str
    cells: Sequence[str]
    needed: bool = True
    """Or it is left out where there is no room."""

    @property
    def width(self) -> int:
        """Columns of a terminal that it takes in one line a cell."""
        return max(map(cell_len, (*self.head.split("\n"), *self.cells)), default=0)


@dataclass(frozen=True)
class Bars:
    """A column of shares, drawn as bars in the available width, or omitted."""

    shares: Sequence[float]


def fitted_table(title: str, names: Column, others: Sequence[Column | Bars], width: int) -> Table:
    """Make a table of no more than ``width`` columns of a terminal.

    Bars give way first, then the columns that are not needed, the last of them first; names that are longer than the
    room that is left go on in a second line.
    """
    shown, room = next(_fitting(names, others, width))
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(names.head), overflow="fold", width=max(min(names.width, room), 1), vertical="top")
    columns: list[list[str]] = []
    for one in shown:
        if isinstance(one, Bars):
            columns.append(_drawn(one.shares, room - names.width - _GAP))
            table.add_column(Text(), no_wrap=True)
        else:
            columns.append(list(one.cells))
            table.add_column(Text(one.head), justify="right", no_wrap=True)
    for row in zip(names.cells, *columns, strict=True):
        table.add_row(*map(Text, row))
    return table


def folded_table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    whole: Collection[str] = (),
    caption: str | None = None,
) -> Table:
    """Make a table whose long texts go on in further lines.

    Args:
        title: Its title.
        heads: Headings of its columns.
        rows: Texts, one for each column.
        whole: Headings of columns whose texts stay in one line.
        caption: A line below it.
    """
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption, table.caption_justify = None if caption is None else Text(caption), "left"
    for head in heads:
        table.add_column(Text(head), overflow="fold", no_wrap=head in whole)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _fitting(
    names: Column, others: Sequence[Column | Bars], width: int
) -> Iterator[tuple[list[Column | Bars], int]]:
    """List the possible layouts, best first."""
    plain = [one for one in others if isinstance(one, Column)]
    optional = [one for one in reversed(plain) if not one.needed]
    enough = min(names.width, _NAME)
    room = _room(plain, width)
    if room >= names.width + _GAP + _NARROWEST_BAR:
        yield list(others), room
    for left_out in range(len(optional) + 1):
        kept = [one for one in plain if one not in optional[:left_out]]
        room = _room(kept, width)
        if room >= enough or left_out == len(optional):
            yield list(kept), room


def _room(columns: Sequence[Column], width: int) -> int:
    return width - sum(one.width + _GAP for one in columns) - 2


def _drawn(shares: Sequence[float], room: int) -> list[str]:
    top = max(shares, default=0.0) or 1.0
    return ["█" * round(share / top * min(room, _WIDEST_BAR)) for share in shares]
