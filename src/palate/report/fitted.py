"""Tables that fit the width of the terminal by dropping less important columns and wrapping names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 3
"""Space between two columns of a table, in terminal columns."""
_WIDEST_BAR, _NARROWEST_BAR = 24, 6
_NAME = 24
"""Width reserved for names before optional columns are shown, in terminal columns."""


@dataclass(frozen=True)
class Column:
    """A column of texts with a heading of up to two lines."""

    head: str
    cells: Sequence[str]
    needed: bool = True
    """Whether the column is always shown; others are dropped if the table is too wide."""

    @property
    def width(self) -> int:
        """Width without wrapping, in terminal columns."""
        return max(map(cell_len, (*self.head.split("\n"), *self.cells)), default=0)


@dataclass(frozen=True)
class Bars:
    """A column of shares, drawn as bars in the remaining width, or dropped."""

    shares: Sequence[float]


def fitted_table(title: str, names: Column, others: Sequence[Column | Bars], width: int) -> Table:
    """Create a table at most ``width`` terminal columns wide.

    Bars are dropped first, then the columns that are not ``needed``, from the last; long names are wrapped.
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
    """Create a table that wraps long texts.

    Args:
        title: Title of the table.
        heads: Headings of the columns.
        rows: Texts, one per column.
        whole: Headings of columns whose texts are not wrapped.
        caption: Line below the table.
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
