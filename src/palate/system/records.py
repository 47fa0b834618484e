"""Records: what JSON files, settings and requests hold, validated by pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from palate.errors import DataError, faults
from palate.system.files import read_bytes

_Record = TypeVar("_Record")


class Frozen(BaseModel):
    """Values that do not change, with no unknown fields, so that a misspelled one is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_record(kind: type[_Record], path: Path, missing: str, again: str) -> _Record:
    """Read a JSON file as one record.

    Args:
        kind: What it holds: a pydantic model, or any type that pydantic validates.
        path: The file.
        missing: What to say where there is no file.
        again: What to do about a file that is damaged, for the error.

    Raises:
        DataError: The file cannot be read, or is not such a record.
    """
    return parse_record(kind, read_bytes(path, missing), path, again)


def parse_record(
    kind: type[_Record], content: bytes | str, path: Path, again: str, line: int | None = None
) -> _Record:
    """Validate JSON as one record; the arguments and errors are those of :func:`read_record`."""
    try:
        validate = getattr(kind, "model_validate_json", None) or TypeAdapter(kind).validate_json
        record: _Record = validate(content)
    except ValidationError as error:
        raise DataError(f"{faults(error)}; {again}", path, line) from error
    return record
