"""Exceptions of palate.

Every message is one line that says what was found, what was expected and what to do. The command line prints it and
exits with code 2; Python code can catch :class:`PalateError` for all of them.
"""

from __future__ import annotations

import errno
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from palate.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers for a full disk, an exhausted quota and a file that is too large."""


class PalateError(Exception):
    """Base class of all errors that the caller can correct: bad input, invalid settings, incompatible parts.

    Example:
        >>> try:
        ...     palate.load_dataset("nowhere")
        ... except palate.PalateError as error:
        ...     print(error)
        nowhere/dataset.json: ...
    """


class DataError(PalateError):
    """Input data is missing, unreadable, damaged or invalid.

    Args:
        message: What was found, what was expected and what to do.
        path: The file, put before the message.
        line: The line in it, counted from 1.
    """

    def __init__(self, message: str, path: Path | str | None = None, line: int | None = None) -> None:
        self.message = message
        self.path = None if path is None else Path(path)
        self.line = line
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message)


def unknown_items(item_ids: Sequence[str]) -> DataError:
    """Create the error for item ids that are not in the catalogue."""
    some = ", ".join(map(repr, item_ids[:3])) + (", …" if len(item_ids) > 3 else "")
    known = "is not known" if len(item_ids) == 1 else "are not known"
    return DataError(
        f"{counted(len(item_ids), 'item id')} {known}: {some}; give their texts, add them as items, or leave them out"
    )


def rating_off_scale(rating: float, rating_values: Iterable[float]) -> DataError:
    """Create the error for a rating that is not on the rating scale."""
    scale = ", ".join(f"{value:g}" for value in rating_values)
    return DataError(f"the rating {rating:g} is not on the model's scale; expected one of {scale}")


class OutputError(PalateError):
    """An output path is not empty or not writable, is in use by another process, or the disk is full."""


def output_error(error: OSError, path: Path | str) -> OutputError:
    """Convert an OSError of a failed write."""
    if error.errno in DISK_FULL:
        return OutputError(f"disk full while writing {path}: free space and run it again")
    return OutputError(f"cannot write {path}: {error.strerror or error}")


class RecipeError(PalateError):
    """A recipe or an override has an unknown key or an invalid value."""


class OldKeyError(RecipeError):
    """A recipe key or a command-line option has been renamed."""


class CacheError(PalateError):
    """A cached file is corrupt."""


class MismatchError(PalateError):
    """A checkpoint, dataset, item encoder, backbone or device do not match."""


class TrainingError(PalateError):
    """A loss, a gradient or a weight is no longer finite."""


class LeakageError(PalateError):
    """A target would be computed from held-out data."""


class MissingExtraError(PalateError):
    """An optional dependency is not installed; the message has the command that installs it."""


class UnknownUserError(PalateError):
    """The user is not in the user store."""


class NotServedError(PalateError):
    """The server lacks the model that a request needs."""


class QuestionError(PalateError):
    """A question has no known kind, or names something that is ambiguous or not in the catalogue."""


class ConflictError(PalateError):
    """An id or a name is already in use."""


class StoreError(PalateError):
    """The user store is unavailable for now; the request can be retried."""


class StoreFullError(StoreError):
    """The user store's disk is full."""


class EngineError(PalateError):
    """An inference engine cannot be reached, failed, or serves another model."""


class EngineUnreachableError(EngineError):
    """No connection to an inference engine."""


class EngineTimeoutError(EngineError):
    """An inference engine did not answer in time."""


class EngineBusyError(EngineError):
    """An inference engine is overloaded; retry after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Suggest the closest known name, as "; did you mean 'x'?".

    Names that differ only in case, spaces or leading zeros are preferred.

    Returns:
        The suggestion, or an empty string if no name is close.
    """
    names = list(known)
    plain = _plain(wrong)
    close = [name for name in names if _plain(name) == plain][:1] or get_close_matches(wrong, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _plain(name: str) -> str:
    return "".join(name.split()).casefold().lstrip("0")


def faults(error: ValidationError) -> str:
    """Format a pydantic ValidationError as "field: message; field: …"."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'the file'}: {fault_message(fault)}"
        for fault in error.errors(include_url=False)
    )


def fault_message(fault: ErrorDetails) -> str:
    """Format one pydantic error, without its field and the value found."""
    if fault["type"] == "extra_forbidden":
        return "unknown field; leave it out"
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "expected a section with keys of its own"
    message = fault["msg"].removeprefix("Value error, ")
    return "is missing" if fault["type"] == "missing" else message.replace("Input should be", "expected")
