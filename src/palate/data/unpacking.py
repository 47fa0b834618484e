"""The bound on what compressed files may unpack to."""

from __future__ import annotations

from pathlib import Path

from palate.errors import DataError

RATIO = 200
"""Times its size to which a file may unpack; logs of events reach some tens."""
ALLOWANCE = 64 << 20
"""Bytes that any file may unpack to."""


def check_unpacked(packed: int, unpacked: int, path: Path) -> None:
    """Check a compressed file's size against what it has unpacked to so far.

    Args:
        packed: Bytes of the compressed file.
        unpacked: Bytes that it has unpacked to.
        path: The file, named in the error.

    Raises:
        DataError: It is too much for a file of events: the file is damaged, or made to fill memory or disk.
    """
    if unpacked > max(RATIO * packed, ALLOWANCE):
        raise DataError(
            f"{packed:,} bytes unpack to more than {RATIO} times as many, as no ordinary file does; "
            "if it is what you expect, unpack it yourself and give the unpacked file",
            path,
        )
