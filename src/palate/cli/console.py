"""Where things are printed: results to stdout, what happens meanwhile to stderr."""

from __future__ import annotations

import sys

import typer


def tell(line: str) -> None:
    """Say what happens, to stderr."""
    typer.echo(line, err=True)


def show(line: str) -> None:
    """Print a result, to stdout."""
    typer.echo(line)


def watched() -> bool:
    """Whether someone sees progress bars: stderr is a terminal."""
    return sys.stderr.isatty()
