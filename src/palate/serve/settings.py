"""How a server runs: where it listens, where its users are, and what it takes at most."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from palate.errors import DataError, PalateError, faults
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.serve.schemas import SentQuestion

VARIABLE = "PALATE_SERVE"
"""The environment variable that carries the settings to worker processes."""


class Limits(Frozen):
    """What a server takes at most; beyond, it answers with an error that names the limit."""

    body_bytes: int = Field(8 * 2**20, ge=1)
    """Size of a request's body."""
    events: int = Field(10_000, ge=1)
    """Events or items in one request, a given history's too."""
    questions: int = Field(32, ge=1)
    """Questions in one request."""
    attributed: int = Field(200, ge=1)
    """Events of a history each of which is left out in turn, to tell what an answer rests on."""
    instruction: int = Field(2_000, ge=1)
    """Characters of an instruction."""
    requests: int = Field(256, ge=1)
    """Requests at a time in one worker."""
    waiting: int = Field(128, ge=1)
    """Questions that wait for an answer in one worker."""
    batch: int = Field(32, ge=1)
    """Questions that the backbone answers at once."""
    seconds: float = Field(30.0, gt=0)
    """Time for a request, and for those under way when the server is told to stop."""

    def check_question(self, sent: SentQuestion, place: str = "") -> None:
        """Raise :class:`DataError` for an instruction or a history that is too long; ``place`` says where it is."""
        if sent.instruction and len(sent.instruction) > self.instruction:
            raise DataError(
                f"{place}instruction: found {len(sent.instruction):,} characters, "
                f"expected at most {self.instruction:,}"
            )
        if sent.history and len(sent.history) > self.events:
            raise DataError(
                f"{place}history: found {len(sent.history):,} events, expected at most {self.events:,}; "
                "give the most recent ones"
            )


class ServeSettings(Frozen):
    """Everything that a worker process needs to know."""

    run: Path
    store: str
    backbone: str | None = None
    """Where a backbone that was not saved with the model lies now; where it was when not given."""
    device: str = "auto"
    """Where the model computes, in every worker process."""
    data: Path | None = None
    """The dataset, for titles and the rule; the run's own when not given."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    key_file: Path | None = None
    log_content: bool = False
    limits: Limits = Limits()

    def check_host(self) -> None:
        """Raise :class:`PalateError` for an open address that no key guards."""
        if self.key_file is None and not is_loopback(self.host):
            raise PalateError(
                f"--host {self.host} can be reached from elsewhere, and there is no key; give --api-key-file with "
                "a key a line, or leave --host out"
            )

    def to_environment(self) -> None:
        """Hand the settings to the worker processes that will be started."""
        os.environ[VARIABLE] = self.model_dump_json()

    @classmethod
    def from_environment(cls) -> ServeSettings:
        """What :meth:`to_environment` wrote."""
        return cls.model_validate_json(os.environ[VARIABLE])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_limits(changes: Sequence[str]) -> Limits:
    """Limits with changes like ``seconds=60``; raises :class:`PalateError` for one that is unknown or not allowed."""
    given = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in Limits.model_fields:
            known = ", ".join(Limits.model_fields)
            raise PalateError(f"--limit {change}: expected NAME=VALUE with one of {known}")
        given[name] = value
    try:
        return Limits.model_validate(given)
    except ValidationError as error:
        raise PalateError(f"--limit {faults(error)}") from error
