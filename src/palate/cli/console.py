"""Where things are printed: results to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 120
"""Columns of a table that is written to a file or a pipe."""


def tell(line: str) -> None:
    """Say what happens, to stderr."""
    typer.echo(line, err=True)


def show(line: str) -> None:
    """Print a result, to stdout."""
    typer.echo(line)


def show_table(table: Table) -> None:
    """Print a table, to stdout."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def watched() -> bool:
    """Whether someone sees progress bars: stderr is a terminal."""
    return sys.stderr.isatty()
