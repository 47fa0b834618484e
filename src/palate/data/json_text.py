"""Strict JSON parsing for files and requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def read_json(data: bytes | str) -> Any:
    """Parse JSON, with or without a byte order mark.

    NaN and Infinity become floats that are not finite, which the caller must reject.

    Args:
        data: Text, or UTF-8 bytes.

    Returns:
        The value, as from ``json.loads``.

    Raises:
        JSONDecodeError: The data is not UTF-8, not JSON, nested too deeply, or an object has a duplicate key.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return _DECODER.decode(text.removeprefix("\ufeff"))
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
    """Iterate over non-blank lines with their numbers, from 1; lines end with LF, CR LF or CR."""
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            yield number, line


class _TwiceError(ValueError):
    """A duplicate key in an object."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from key-value pairs; raises ValueError for a duplicate key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"the key {twice!r} occurs twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)  # json.loads would create one for each call
