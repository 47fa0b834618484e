"""Console output: results to stdout, progress messages to stderr."""

from __future__ import annotations

import codecs
import io
import json
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from palate.words import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_WIDE = 120
"""Width of a table that is written to a file or a pipe, in characters."""
_PLAIN = "palate-plain"
# fmt: off
_LOOK_ALIKES = {
    "█": "#", "─": "-", "━": "-", "╸": "-", "╺": "-", "–": "-", "—": "-", "…": "...", "✓": "+", "✗": "x", "±": "+/-",
    "×": "x", "·": ".", "•": "*", "→": "->", "‘": "'", "’": "'", "“": '"', "”": '"', "≥": ">=", "≤": "<=",
}
# fmt: on
"""ASCII substitutes for palate's own characters, for encodings that lack them."""


def print_whatever_can_be_printed() -> None:
    """Make stdout and stderr accept all text: unencodable characters are replaced by substitutes or escapes.

    A terminal or pipe may use ASCII, Latin-1 or a code page, and names of items, users and files may be any text.
    """
    codecs.register_error(_PLAIN, _in_plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)


def tell(line: str) -> None:
    """Print a progress message, to stderr."""
    _write(line, sys.stderr)


def tell_device(device: str | None) -> None:
    """Print the device of the computation, to stderr; nothing if None."""
    if device is not None:
        tell(f"computed on {device}")


def show(line: str) -> None:
    """Print a result, to stdout."""
    _write(line, sys.stdout)


def show_json(value: Any, indent: int | None = 2) -> None:
    """Print a result as JSON, to stdout; with JSON's escapes if a character cannot be encoded."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    show(text if _can_be_printed(text) else json.dumps(value, indent=indent))


def show_table(table: RenderableType) -> None:
    """Print a table, to stdout."""
    from rich.console import Console

    Console(width=_width(), markup=False, emoji=False).print(_Printable(table))


def columns() -> int:
    """Return the maximum width of a table on stdout: the terminal's, or 120 for a file or a pipe."""
    from rich.console import Console

    return Console(width=_width()).width


def watched() -> bool:
    """Return whether to show progress bars, which is if stderr is a terminal."""
    return sys.stderr.isatty()


def _write(line: str, stream: IO[str]) -> None:
    """Write a line; unlike click's echo in the encoding of the stream."""
    stream.write(printable(line) + "\n")
    stream.flush()


@dataclass(frozen=True)
class _Printable:
    """A table whose texts are stripped of control characters, which a terminal would interpret."""

    table: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for one in console.render(self.table, options):
            yield one._replace(text=printable(one.text)) if one.control is None else one


def _can_be_printed(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return printable(text) == text


def _width() -> int | None:
    return None if sys.stdout.isatty() else _WIDE


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    failed = error.object[error.start : error.end]
    plain = (_LOOK_ALIKES.get(one) or one.encode("ascii", "backslashreplace").decode() for one in failed)
    return "".join(plain), error.end
