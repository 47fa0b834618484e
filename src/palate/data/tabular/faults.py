"""Collection of several errors, which are reported together."""

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
        """Add an error."""
        self._errors.append(error)

    def extend(self, others: Faults) -> None:
        """Add all errors of another collection."""
        self._errors += others._errors

    def catch(self, step: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs) -> Found | None:
        """Call a step and return its result; if it raises :class:`DataError`, add the error and return None."""
        try:
            return step(*args, **kwargs)
        except DataError as error:
            self.add(error)
            return None

    def check(self) -> None:
        """Raise the collected errors as one, with a one-line message; do nothing if there are none."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise DataError("; ".join(self._parts()))

    def _parts(self) -> list[str]:
        """Format the messages without repeating file names and column lists in consecutive ones."""
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
