"""Reads text files, plain or compressed: compression detected by the first bytes, lines decoded as UTF-8."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from palate.data.unpacking import check_unpacked
from palate.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_OTHERS = {
    b"PK\x03\x04": "a zip archive (as .xlsx files are); unpack it, or save the table as CSV",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"PAR1": "a Parquet file; give it a name that ends in .parquet",
    b"\xff\xfe": "UTF-16 text; save the file as UTF-8",
    b"\xfe\xff": "UTF-16 text; save the file as UTF-8",
}
_LONGEST_MAGIC = 8
_ESCAPED = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as decoded by ``surrogateescape``."""


def open_stream(path: Path) -> pa.NativeFile:
    """Open a text file as a pyarrow stream, decompressed.

    Args:
        path: The file; its compression (gzip, zstd, bzip2 or none) is detected by content, not by name.

    Returns:
        The stream. Reading from it raises OSError if the compressed data is truncated; see :func:`broken_file`.

    Raises:
        DataError: The file cannot be opened, or is not UTF-8 text.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_MAGIC)
        compression = next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)
        content = pa.input_stream(str(path), compression=compression).read(_LONGEST_MAGIC)
    except OSError as error:
        raise broken_file(path, error) from error
    for magic, what in _OTHERS.items():
        if content.startswith(magic):
            raise DataError(f"the file is {what}", path)
    return pa.input_stream(str(path), compression=compression)


class _Bounded(io.RawIOBase):
    """Decompressed content of a file; raises :class:`DataError` if the compression ratio is too high."""

    def __init__(self, path: Path) -> None:
        self._stream, self._path = open_stream(path), path
        self._size, self._given = path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        given: int = self._stream.readinto(buffer)
        self._given += given
        check_unpacked(self._size, self._given, self._path)
        return given

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_bytes(path: Path) -> BinaryIO:
    """Open a text file as a buffered Python file of decompressed bytes.

    Raises:
        DataError: As :func:`open_stream`; also on reading, if the compression ratio is too high for an event file.
    """
    return io.BufferedReader(_Bounded(path), 1 << 20)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed bytes of a text file in chunks of 1 MiB.

    Raises:
        DataError: The file cannot be opened, or its compressed data is truncated.
    """
    try:
        with open_bytes(path) as file:
            while chunk := file.read(1 << 20):
                yield chunk
    except OSError as error:
        raise broken_file(path, error) from error


def count_lines(path: Path) -> int:
    r"""Count the lines of a text file, which end with ``\n``, ``\r\n`` or ``\r``; the last may lack its end.

    Raises:
        DataError: The file cannot be opened, or its compressed data is truncated.
    """
    ends, last = 0, b""
    for chunk in chunks(path):
        ends += chunk.count(b"\n")
        if b"\r" in chunk:
            ends += chunk.count(b"\r") - chunk.count(b"\r\n")
        if last == b"\r" and chunk.startswith(b"\n"):
            ends -= 1
        last = chunk[-1:]
    return ends + (last not in (b"", b"\n", b"\r"))


def text_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a text file with their ends: ``\n``, ``\r\n`` or ``\r``.

    Bytes that are not UTF-8 are kept as lone surrogates, so that lines can be counted; see :func:`check_text`.

    Raises:
        DataError: The file cannot be opened, or its compressed data is truncated.
    """
    try:
        with io.TextIOWrapper(open_bytes(path), "utf-8-sig", errors="surrogateescape", newline="") as text:
            yield from text
    except OSError as error:
        raise broken_file(path, error) from error


def check_text(text: str, path: Path, line: int) -> None:
    """Raise :class:`DataError` if a line of :func:`text_lines` contains bytes that are not UTF-8."""
    if not text.isascii() and _ESCAPED.search(text):
        raise DataError("the line contains bytes that are not UTF-8 text; save the file as UTF-8", path, line)


def broken_file(path: Path, error: OSError) -> DataError:
    """Create the error for a file that cannot be read or whose compressed data is truncated."""
    if error.strerror:
        return DataError(f"cannot be read: {error.strerror}", path)
    return DataError(f"not a complete compressed file ({error}); copy it again", path)
