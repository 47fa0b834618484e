"""JSON from outside, read the same way from files and from requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def read_json(data: bytes | str) -> Any:
    """Read JSON text, with or without a byte order mark.

    NaN and Infinity become floats that are not finite, for the caller to refuse where they stand.

    Args:
        data: Text, or UTF-8 bytes.

    Returns:
        What it holds, as ``json.loads`` gives it.

    Raises:
        JSONDecodeError: It is not UTF-8, not JSON, nested too deeply, or an object has a key twice, of which one
            would be lost.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=unique_keys)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("expected UTF-8 text", "", 0) from error
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None
    except ValueError as error:
        said = str(error) if isinstance(error, _TwiceError) else "a number has too many digits"
        raise json.JSONDecodeError(said, "", 0) from None


def filled_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines of JSON lines that are not blank, each with its number from 1; they end with LF, CR LF or CR."""
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            yield number, line


class _TwiceError(ValueError):
    """A key stands twice in one object."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its pairs; raises ValueError for a key that stands twice, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the key {twice!r} stands twice in one object")
    return found
