"""Memory-mapped arrays of safetensors files, which processes share in the page cache."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from palate.errors import DataError
from palate.system.files import check_readable

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_LENGTH = struct.Struct("<Q")
_TYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "I64": "<i8",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
"""numpy dtypes by safetensors dtype."""


def map_arrays(path: Path, what: str, advice: str) -> dict[str, np.ndarray]:
    """Memory-map the arrays of a safetensors file.

    The mapping is copy-on-write: writing to an array changes neither the file nor other processes' arrays. The file
    may be replaced by renaming, but must not be modified in place.

    Args:
        path: File to map.
        what: Noun for the content, in the plural, for messages.
        advice: Remedy for a missing or damaged file, for messages.

    Returns:
        The arrays by name.

    Raises:
        DataError: The file is missing, unreadable or damaged.
    """
    check_readable(path, f"{what} are missing; {advice}")
    try:
        with safe_open(path, "numpy") as checked:  # validates the header against the file
            names = list(checked.keys())
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            header = json.loads(file.read(length))
        data = np.asarray(np.memmap(path, np.uint8, mode="c"))[_LENGTH.size + length :]
        return {name: _array(data, **header[name]) for name in names}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{what} cannot be read ({error}); {advice}", path) from error


def _array(data: _Bytes, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> np.ndarray:
    """Return a header entry's array as a view of the file's data [N]."""
    begin, end = data_offsets
    return data[begin:end].view(_TYPES[dtype]).reshape(shape)
