"""The errors that palate raises on purpose.

Every message is one line that says what was found, what was expected, and what to do. The command line prints
it and exits with code 2; a Python caller can catch :class:`PalateError` for all of them.
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
"""How a system tells that there is no room: on the disk, for the user, or for a file of this size."""


class PalateError(Exception):
    """Something the caller can put right: bad input, a wrong setting, parts that do not belong together."""


class DataError(PalateError):
    """A file of data cannot be read as what it should be."""

    def __init__(self, message: str, path: Path | str | None = None, line: int | None = None) -> None:
        self.message = message
        self.path = None if path is None else Path(path)
        self.line = line
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message)


def unknown_items(item_ids: Sequence[str]) -> DataError:
    """Return the error for a history that names items which are not known, by their ids."""
    some = ", ".join(map(repr, item_ids[:3])) + (", …" if len(item_ids) > 3 else "")
    known = "is not known" if len(item_ids) == 1 else "are not known"
    return DataError(
        f"{counted(len(item_ids), 'item id')} {known}: {some}; give their texts, add them as items, or leave them out"
    )


def rating_off_scale(rating: float, rating_values: Iterable[float]) -> DataError:
    """Return the error for a rating that is none of the values that are known."""
    scale = ", ".join(f"{value:g}" for value in rating_values)
    return DataError(f"the rating {rating:g} is not on the model's scale; expected one of {scale}")


class OutputError(PalateError):
    """An output path cannot be used: not empty, not writable, or the disk is full."""


def output_error(error: OSError, path: Path | str) -> OutputError:
    """What to raise where the system could not write."""
    if error.errno in DISK_FULL:
        return OutputError(f"disk full while writing {path}: free space and run it again")
    return OutputError(f"cannot write {path}: {error.strerror or error}")


class RecipeError(PalateError):
    """A recipe or an override names an unknown key, or gives a value that is not allowed."""


class OldKeyError(RecipeError):
    """A recipe has keys, or a command options, that have been renamed."""


class CacheError(PalateError):
    """A cached file is damaged."""


class MismatchError(PalateError):
    """A checkpoint, a dataset, an item encoder or a backbone do not belong together."""


class TrainingError(PalateError):
    """A training has come apart: a loss, a gradient or a weight is no finite number any more."""


class LeakageError(PalateError):
    """A target would be made from data that the example must not have seen."""


class MissingExtraError(PalateError):
    """An optional dependency is not installed; the message names the exact command that installs it."""


class UnknownUserError(PalateError):
    """The user store has no such user."""


class ConflictError(PalateError):
    """An id is already taken, by something else."""


class StoreError(PalateError):
    """The user store cannot be used now; the same may work later."""


class StoreFullError(StoreError):
    """The user store's disk is full."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The nearest known name as "; did you mean 'x'?", or nothing where none is near.

    Names that differ in case, spaces or leading zeros alone are the nearest of all.
    """
    names = list(known)
    plain = _plain(wrong)
    close = [name for name in names if _plain(name) == plain][:1] or get_close_matches(wrong, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _plain(name: str) -> str:
    return "".join(name.split()).casefold().lstrip("0")


def faults(error: ValidationError) -> str:
    """Word all that pydantic found wrong, as "field: what is wrong with it; field: …"."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'the file'}: {fault_message(fault)}"
        for fault in error.errors(include_url=False)
    )


def fault_message(fault: ErrorDetails) -> str:
    """Word one of pydantic's faults, without its place and without the value that was found."""
    if fault["type"] == "extra_forbidden":
        return "unknown field; leave it out"
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "expected a section with keys of its own"
    message = fault["msg"].removeprefix("Value error, ")
    return "is missing" if fault["type"] == "missing" else message.replace("Input should be", "expected")
