"""Pydantic records: base class, validation of JSON files, and metadata of safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from palate.errors import DataError, faults
from palate.system.files import read_bytes

_Record = TypeVar("_Record")


class Frozen(BaseModel):
    """Base class of immutable models that reject unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_record(kind: type[_Record], path: Path, missing: str, again: str) -> _Record:
    """Read and validate a JSON file.

    Args:
        kind: Type of the content: a pydantic model, or any type that pydantic validates.
        path: File to read.
        missing: Error message if the file does not exist.
        again: Remedy for a damaged file, which ends the message.

    Returns:
        The validated content.

    Raises:
        DataError: The file cannot be read or is invalid.
    """
    return parse_record(kind, read_bytes(path, missing), path, again)


def parse_record(
    kind: type[_Record], content: bytes | str, path: Path, again: str, line: int | None = None
) -> _Record:
    """Validate JSON; arguments and errors as of :func:`read_record`."""
    try:
        validate = getattr(kind, "model_validate_json", None) or TypeAdapter(kind).validate_json
        record: _Record = validate(content)
    except ValidationError as error:
        raise DataError(f"{faults(error)}; {again}", path, line) from error
    return record


def tensor_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of safetensors bytes, which the library cannot read from memory; empty if there is none."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata
