"""Collects several errors to report them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from palate.errors import DataError

Given = ParamSpec("Given")
Found = TypeVar("Found")
_LISTING = "; there are "


class Faults:
    """Collects the :class:`DataError` of independent steps."""

    def __init__(self) -> None:
        self._errors: list[DataError] = []

    def __bool__(self) -> bool:
        return bool(self._errors)

    def add(self, error: DataError) -> None:
        """Keep an error for :meth:`check`."""
        self._errors.append(error)

    def extend(self, others: Faults) -> None:
        """Keep all errors of others."""
        self._errors += others._errors

    def catch(self, step: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs) -> Found | None:
        """Return what a step gives, or None when it raises :class:`DataError`, which is kept."""
        try:
            return step(*args, **kwargs)
        except DataError as error:
            self.add(error)
            return None

    def check(self) -> None:
        """Raise what was collected, as one error of one line."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise DataError("; ".join(self._parts()))

    def _parts(self) -> list[str]:
        """Format the messages, without repeating a file's name and columns in consecutive ones."""
        parts = []
        for number, error in enumerate(self._errors):
            text = str(error)
            before = self._errors[number - 1] if number else None
            if before is not None and error.line is None and error.path == before.path:
                text = text.removeprefix(f"{error.path}: ")
            listing = text.partition(_LISTING)[2]
            if listing and any(
                str(later).endswith(_LISTING + listing) for later in self._errors[number + 1 :]
            ):
                text = text.removesuffix(_LISTING + listing)
            parts.append(text)
        return parts
