"""Events of many users as NDJSON: one a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from palate.errors import DataError
from palate.serve.api import UsersEvent
from palate.serve.appending import Event
from palate.serve.problems import faults_of

NDJSON = "application/x-ndjson"


def events_by_user(lines: Sequence[bytes], unrated: float | None) -> dict[str, list[Event]]:
    """The events by whose they are, in the order of the lines; raises :class:`DataError` for a line that is none.

    ``unrated`` is what one counts without a rating, None where it needs one.
    """
    by_user: dict[str, list[Event]] = {}
    for number, sent in _events_of(lines):
        by_user.setdefault(sent.user_id, []).append(sent.event(unrated, f"line {number}: "))
    if not by_user:
        raise DataError(f"no events; expected {NDJSON}, an event a line")
    return by_user


def _events_of(lines: Sequence[bytes]) -> Iterator[tuple[int, UsersEvent]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, UsersEvent.model_validate_json(line)
            except ValidationError as error:
                raise DataError(f"line {number}: {faults_of(error.errors(include_input=False))}") from None
