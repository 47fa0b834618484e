"""Settings and limits of the server, and their parsing from command-line options."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from palate.errors import DataError, PalateError, faults
from palate.runs.run import run_folder
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.serve.schemas import SentQuestion, SentUser

VARIABLE = "PALATE_SERVE"
"""Environment variable that passes the settings to worker processes, as JSON."""


class Limits(Frozen):
    """Limits of the server; the error of a request that exceeds one names it."""

    body_bytes: int = Field(8 * 2**20, ge=1)
    """Maximum size of a request body, in bytes."""
    body_seconds: float = Field(10.0, gt=0)
    """Timeout for receiving a request body, in seconds."""
    body_rate: int = Field(16 * 2**20, ge=1)
    """Maximum rate at which a worker receives request bodies above 64 KiB, in bytes per second."""
    events: int = Field(10_000, ge=1)
    """Maximum number of events or items in a request, including those of a given history."""
    new_items: int = Field(128, ge=1)
    """Maximum number of new items in a request, whose texts have to be encoded."""
    questions: int = Field(32, ge=1)
    """Maximum number of questions, or of users to recommend to, in a request."""
    listed: int = Field(1_000, ge=1)
    """Maximum length of a list of recommendations, and maximum number of items to rate or to choose from."""
    attributed: int = Field(200, ge=1)
    """Maximum number of events of a history in an attribution, which scores the answer without each of them."""
    instruction: int = Field(2_000, ge=1)
    """Maximum length of an instruction, in characters."""
    requests: int = Field(256, ge=1)
    """Maximum number of concurrent requests per worker."""
    waiting: int = Field(128, ge=1)
    """Maximum number of queued questions per worker, and likewise of queued requests for recommendations."""
    batch: int = Field(32, ge=1)
    """Maximum batch size of the backbone, in questions."""
    engine: int = Field(64, ge=1)
    """Maximum number of concurrent requests to an engine per worker; further questions are queued."""
    engine_seconds: float = Field(25.0, gt=0)
    """Timeout of a request to an engine, in seconds."""
    seconds: float = Field(30.0, gt=0)
    """Timeout of a request, and at shutdown of all pending requests, in seconds."""
    panel: int = Field(50, ge=0)
    """Size of the panel on which an upgrade compares the two models: the first stored users."""
    panel_changed: float = Field(0.9, ge=0, le=1)
    """Maximum fraction of changed answers on the panel; above it, the old model stays in use."""
    panel_f1_loss: float = Field(0.05, ge=0, le=1)
    """Maximum loss of F1 on the panel; above it, the old model stays in use."""

    def check_count(self, name: str, found: int, most: int, hint: str = "send them in parts") -> None:
        """Raise :class:`DataError` if a count exceeds its limit; ``name`` is the field, ``hint`` says what to do."""
        if found > most:
            raise DataError(f"{name}: found {found:,}, expected at most {most:,}; {hint}")

    def check_question(self, sent: SentQuestion, place: str = "") -> None:
        """Raise :class:`DataError` if the instruction or history is too long; ``place`` is the message's prefix."""
        if sent.instruction and len(sent.instruction) > self.instruction:
            raise DataError(
                f"{place}instruction: found {len(sent.instruction):,} characters, "
                f"expected at most {self.instruction:,}"
            )
        self.check_history(sent, place)

    def check_history(self, sent: SentUser, place: str = "") -> None:
        """Raise :class:`DataError` if the history is too long; ``place`` is the message's prefix."""
        if sent.history and len(sent.history) > self.events:
            raise DataError(
                f"{place}history: found {len(sent.history):,} events, expected at most {self.events:,}; "
                "give the most recent ones"
            )
        new = sum(event.title is not None for event in sent.history or ())
        if new > self.new_items:
            raise DataError(
                f"{place}history: found {new:,} items as text, expected at most {self.new_items:,}; add them with "
                "POST /items first, or give the most recent ones"
            )


class EngineSettings(Frozen):
    """An inference engine with OpenAI's completions API that takes prompt embeddings, such as vLLM."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
    """Base URL, with or without ``/v1``."""
    model: str | None = None
    """Name of the model on the engine; None if the engine serves only one."""

    @property
    def base(self) -> str:
        """Base URL of the API, ending in ``/v1``."""
        return f"{self.url.rstrip('/').removesuffix('/v1')}/v1"


ENGINE_KEY = "PALATE_ENGINE_KEY"
"""Environment variable of the engine's API key, which as an option would be visible in process lists."""


class ServeSettings(Frozen):
    """Settings of a worker process."""

    run: Path
    """Run folder of a language model, or of a recommender without a language model."""
    store: str
    """SQLite file or PostgreSQL URL of the user store."""
    recommender: Path | None = None
    """Run folder of a recommender that is served in addition to the language model of ``run``."""
    backbone: str | None = None
    """Folder of a backbone that is not saved with the model; None for the one that the model names."""
    called: str | None = None
    """Name of the served model; that of its folder if None."""
    device: str = "auto"
    """Device of the model in each worker process, such as ``cpu`` or ``cuda:1``; ``auto`` takes the first GPU."""
    writer: str | None = None
    """Pretrained decoder-only model that words answers to free questions; None for templates."""
    data: Path | None = None
    """Dataset for titles, the label rule, and a model that is not bound to a catalogue; the run's own if None."""
    engine: EngineSettings | None = None
    """Engine that generates instead of the loaded backbone."""
    previous: Path | None = None
    """Run folder of the model that ``run`` replaces; it answers until all users are encoded for ``run``."""
    previous_recommender: Path | None = None
    """Run folder of the recommender that is served in addition to ``previous``."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """TCP port; 0 lets the operating system choose one."""
    workers: int = Field(1, ge=1)
    """Number of worker processes."""
    key_file: Path | None = None
    """File of API keys, one per line; without it the host has to be a loopback address."""
    retention_days: float | None = Field(None, ge=1)
    """Age in days above which events are deleted; None keeps all."""
    log_content: bool = False
    """Whether the log holds user ids and questions."""
    limits: Limits = Limits()

    @property
    def of_previous(self) -> ServeSettings:
        """Settings for serving the previous run."""
        assert self.previous is not None
        data = None if run_folder(self.previous).keeps else self.data
        changed = {"run": self.previous, "recommender": self.previous_recommender, "data": data}
        return self.model_copy(update={**changed, "previous": None, "previous_recommender": None})

    def check_host(self) -> None:
        """Raise :class:`PalateError` if the address is reachable from other hosts and there is no API key."""
        if self.key_file is None and not is_loopback(self.host):
            raise PalateError(
                f"--host {self.host} is reachable from other machines, and there are no API keys; give --api-key-file "
                "with one key per line, or leave --host out"
            )

    def to_environment(self) -> None:
        """Pass the settings to worker processes through the environment."""
        os.environ[VARIABLE] = self.model_dump_json()

    @classmethod
    def from_environment(cls) -> ServeSettings:
        """Read the settings that :meth:`to_environment` wrote."""
        return cls.model_validate_json(os.environ[VARIABLE])


def default_store(run: Path, data: Path | None) -> str:
    """Return the default store: ``users.sqlite`` in the run's folder, or in the dataset's where that stays as it is.

    Raises:
        PalateError: The packaged model or one of the hub is given without data.
    """
    folder = run if run_folder(run).keeps else data
    if folder is None:
        raise PalateError(
            f"{run} has no folder for a user store; name a dataset with --data, or a store with --store"
        )
    return str(folder / "users.sqlite")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address is ``localhost`` or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_engine(url: str | None, model: str | None) -> EngineSettings | None:
    """Validate the options of an engine; raises :class:`PalateError` for an invalid URL or a model without one."""
    if url is None:
        if model is not None:
            raise PalateError(
                f"--engine-model {model}: there is no --engine; give the engine's URL, or leave --engine-model out"
            )
        return None
    try:
        return EngineSettings(url=url, model=model)
    except ValidationError:
        raise PalateError(
            f"--engine {url}: expected a URL like http://127.0.0.1:8000, without user, password or query"
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
