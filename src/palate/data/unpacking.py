"""Limit on the size of decompressed files."""

from __future__ import annotations

from pathlib import Path

from palate.errors import DataError

RATIO = 200
"""Maximum compression ratio of a file; event logs reach a few tens."""
ALLOWANCE = 64 << 20
"""Bytes that any file may decompress to, whatever its ratio."""


def check_unpacked(packed: int, unpacked: int, path: Path) -> None:
    """Check the compression ratio of a file.

    Args:
        packed: Size of the compressed file in bytes.
        unpacked: Bytes decompressed so far.
        path: The file, named in the error.

    Raises:
        DataError: The ratio is too high for an event file: the file is damaged or a decompression bomb.
    """
    if unpacked > max(RATIO * packed, ALLOWANCE):
        raise DataError(
            f"{packed:,} bytes unpack to more than {RATIO} times as many, as no ordinary file does; "
            "if it is what you expect, unpack it yourself and give the unpacked file",
            path,
        )
