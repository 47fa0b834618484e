"""Settings and limits of the server."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from palate.errors import DataError, PalateError, faults
from palate.system.places import PACKAGED
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.serve.schemas import SentQuestion, SentUser

VARIABLE = "PALATE_SERVE"
"""Environment variable with the settings of worker processes."""


class Limits(Frozen):
    """Limits of a server; a request that exceeds one gets an error that names it."""

    body_bytes: int = Field(8 * 2**20, ge=1)
    """Maximum size of a request body, in bytes."""
    body_seconds: float = Field(10.0, gt=0)
    """Time in which a request body must have arrived, in seconds."""
    body_rate: int = Field(16 * 2**20, ge=1)
    """Bytes a second of large request bodies, those above 64 KiB, that a worker receives; small ones never wait."""
    events: int = Field(10_000, ge=1)
    """Maximum number of events or items in a request, including those of a given history."""
    new_items: int = Field(128, ge=1)
    """Maximum number of new items in a request, whose texts are encoded."""
    questions: int = Field(32, ge=1)
    """Maximum number of questions, or of users to recommend to, in a request."""
    listed: int = Field(1_000, ge=1)
    """Maximum length of a list of recommendations, and number of items to rate or to choose from."""
    attributed: int = Field(200, ge=1)
    """Maximum number of events of a history in an attribution, which leaves each one out."""
    instruction: int = Field(2_000, ge=1)
    """Maximum length of an instruction, in characters."""
    requests: int = Field(256, ge=1)
    """Maximum number of concurrent requests per worker."""
    waiting: int = Field(128, ge=1)
    """Maximum number of queued questions per worker, and of queued requests for recommendations."""
    batch: int = Field(32, ge=1)
    """Maximum batch size of the backbone, in questions."""
    engine: int = Field(64, ge=1)
    """Maximum number of concurrent requests to an engine per worker; further questions wait."""
    engine_seconds: float = Field(25.0, gt=0)
    """Timeout of a request to an engine, in seconds."""
    seconds: float = Field(30.0, gt=0)
    """Timeout of a request, and of pending requests at shutdown, in seconds."""
    panel: int = Field(50, ge=0)
    """Number of stored users, the first ones, about whom a model and the one that takes its place are compared."""
    panel_changed: float = Field(0.9, ge=0, le=1)
    """Maximum fraction of the panel's answers that may change before a model takes another's place."""
    panel_f1_loss: float = Field(0.05, ge=0, le=1)
    """Maximum loss of F1 on the panel before a model takes another's place."""

    def check_count(self, name: str, found: int, most: int, hint: str = "send them in parts") -> None:
        """Raise :class:`DataError` if a request holds more of something than allowed."""
        if found > most:
            raise DataError(f"{name}: found {found:,}, expected at most {most:,}; {hint}")

    def check_question(self, sent: SentQuestion, place: str = "") -> None:
        """Raise :class:`DataError` if the instruction or the history is too long; ``place`` starts the message."""
        if sent.instruction and len(sent.instruction) > self.instruction:
            raise DataError(
                f"{place}instruction: found {len(sent.instruction):,} characters, "
                f"expected at most {self.instruction:,}"
            )
        self.check_history(sent, place)

    def check_history(self, sent: SentUser, place: str = "") -> None:
        """Raise :class:`DataError` if the history is too long; ``place`` starts the message."""
        if sent.history and len(sent.history) > self.events:
            raise DataError(
                f"{place}history: found {len(sent.history):,} events, expected at most {self.events:,}; "
                "give the most recent ones"
            )
        new = sum(event.title is not None for event in sent.history or ())
        if new > self.new_items:
            raise DataError(
                f"{place}history: found {new:,} items as text, expected at most {self.new_items:,}; add them with "
                "POST /items before, or give the most recent ones"
            )


class EngineSettings(Frozen):
    """An inference engine with OpenAI's completions API that takes prompt embeddings, such as vLLM."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
    """Address, without ``/v1``."""
    model: str | None = None
    """Name of the model there; the only one that it serves if None."""

    @property
    def base(self) -> str:
        """Address of the API."""
        return f"{self.url.rstrip('/').removesuffix('/v1')}/v1"


ENGINE_KEY = "PALATE_ENGINE_KEY"
"""Environment variable with the engine's API key, which no list of processes shows."""


class ServeSettings(Frozen):
    """Settings of a worker process."""

    run: Path
    """Run of a language model, or of a recommender alone."""
    store: str
    recommender: Path | None = None
    """Run of a recommender that is served beside the language model of ``run``."""
    backbone: str | None = None
    """Folder of a backbone that is not saved with the model, if it has moved."""
    device: str = "auto"
    """Device of the model, in each worker process."""
    data: Path | None = None
    """Dataset for titles, the rule, and a model whose weights know no catalogue; the run's own if None."""
    engine: EngineSettings | None = None
    """Engine that generates in the place of the loaded backbone."""
    previous: Path | None = None
    """Run whose place ``run`` takes: it answers until all users are prepared for ``run``."""
    previous_recommender: Path | None = None
    """Run of the recommender beside ``previous``."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    key_file: Path | None = None
    retention_days: float | None = Field(None, ge=1)
    """Age in days above which events are deleted; they are kept if None."""
    log_content: bool = False
    limits: Limits = Limits()

    @property
    def of_previous(self) -> ServeSettings:
        """Settings by which the previous run is served."""
        assert self.previous is not None
        data = self.data if str(self.previous) == PACKAGED else None
        changed = {"run": self.previous, "recommender": self.previous_recommender, "data": data}
        return self.model_copy(update={**changed, "previous": None, "previous_recommender": None})

    def check_host(self) -> None:
        """Raise :class:`PalateError` if the address is reachable from other hosts and there is no API key."""
        if self.key_file is None and not is_loopback(self.host):
            raise PalateError(
                f"--host {self.host} can be reached from elsewhere, and there is no key; give --api-key-file with "
                "a key a line, or leave --host out"
            )

    def to_environment(self) -> None:
        """Pass the settings to worker processes through the environment."""
        os.environ[VARIABLE] = self.model_dump_json()

    @classmethod
    def from_environment(cls) -> ServeSettings:
        """Read the settings of :meth:`to_environment`."""
        return cls.model_validate_json(os.environ[VARIABLE])


def default_store(run: Path, data: Path | None) -> str:
    """Name the store of a run: an SQLite file in its folder, or for the packaged model in its data's."""
    return str((data if str(run) == PACKAGED and data else run) / "users.sqlite")


def is_loopback(host: str) -> bool:
    """Return whether the address is a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_engine(url: str | None, model: str | None) -> EngineSettings | None:
    """Parse the address of an engine; raises :class:`PalateError` for one that is none."""
    if url is None:
        if model is not None:
            raise PalateError(
                f"--engine-model {model}: there is no --engine; give its address, or leave it out"
            )
        return None
    try:
        return EngineSettings(url=url, model=model)
    except ValidationError:
        raise PalateError(
            f"--engine {url}: expected an address like http://127.0.0.1:8000, without a user, a password or a query"
        ) from None


def read_limits(changes: Sequence[str]) -> Limits:
    """Parse limits such as ``seconds=60``; raises :class:`PalateError` for unknown names and invalid values."""
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
