"""Serialises recommender states to bytes in safetensors format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palate.errors import DataError
from palate.recommend.state import TasteState

_SCALARS = "scalars"
_hints = cache(get_type_hints)
STATE_FIELDS = tuple(one.name for one in fields(TasteState))
"""Fields of a state; bytes with other fields are of another version."""


def pack_state(state: TasteState) -> bytes:
    """Serialise a state for :func:`unpack_state`."""
    arrays: dict[str, np.ndarray] = {}
    scalars: dict[str, Any] = {}
    for name, value in _parts(state, ""):
        if isinstance(value, np.ndarray):
            arrays[name] = np.ascontiguousarray(value)
        elif isinstance(value, frozenset):
            arrays[name] = np.array(sorted(value), dtype=np.int64)
        else:
            scalars[name] = value
    text = json.dumps(scalars).encode()
    packed: bytes = save({**arrays, _SCALARS: np.frombuffer(text, dtype=np.uint8)})
    return packed


def unpack_state(data: bytes) -> TasteState:
    """Deserialise a state that :func:`pack_state` wrote.

    Raises:
        DataError: The bytes are damaged, or of another version.
    """
    try:
        arrays = load(data)
        scalars = json.loads(arrays.pop(_SCALARS).tobytes())
        state: TasteState = _made(TasteState, {**arrays, **scalars}, "")
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"not a recommender's state ({error}); rebuild it from the user's history") from error
    return state


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a dataclass, nested ones included, by dotted path."""
    for one in fields(value):
        part = getattr(value, one.name)
        if is_dataclass(part):
            yield from _parts(part, f"{name}{one.name}.")
        else:
            yield f"{name}{one.name}", part


def _made(kind: type, values: Mapping[str, Any], name: str) -> Any:
    """Rebuild a dataclass from the values of :func:`_parts`."""
    made: dict[str, Any] = {}
    for part, hint in _hints(kind).items():
        path = f"{name}{part}"
        held = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
        if held is not None and path not in values:  # an optional one that is None has a value at its path
            made[part] = _made(held, values, f"{path}.")  # type: ignore[arg-type]
        elif hint == frozenset[int]:
            made[part] = frozenset(values[path].tolist())
        else:
            made[part] = values[path]
    return kind(**made)
