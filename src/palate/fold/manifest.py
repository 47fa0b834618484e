"""The manifest of a fold, ``manifest.json``: its model, log files and blocks."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal

from palate.fold.log import LogFile
from palate.fold.state_files import BlockRecord
from palate.system.records import Frozen, read_record

FOLD_MANIFEST = "manifest.json"


class FoldedModel(Frozen):
    """Identity of the model that the states belong to."""

    run: str
    encoder: str
    items: int
    builder: str
    """SHA-256 of the state builder: item categories or projections, and the rating scale."""
    reader: str | None
    """Identity of the weights that latent sums were computed with; None without latent sums."""
    repeats: bool


class FoldManifest(Frozen):
    """Contents of ``manifest.json``: the model, the log files and the blocks of a fold."""

    format: Literal[1] = 1
    made: datetime
    versions: dict[str, str]
    model: FoldedModel
    parts: dict[str, int]
    """Format version of each part of a state."""
    logs: tuple[LogFile, ...]
    """All event files in the states, including those of earlier folds."""
    log_digest: str
    """SHA-256 of these files' checksums."""
    blocks: tuple[BlockRecord, ...]

    @property
    def users(self) -> int:
        """Number of users with a state."""
        return sum(one.users for one in self.blocks)

    @property
    def events(self) -> int:
        """Number of events in the states."""
        return sum(one.events for one in self.blocks)

    @property
    def digest(self) -> str:
        """SHA-256 of all states; equal for every fold of the same events with the same model."""
        text = "\n".join(one.digest for one in self.blocks)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def log_digest(logs: tuple[LogFile, ...]) -> str:
    """Return the SHA-256 of the checksums of log files, independent of their order."""
    text = "\n".join(sorted({one.sha256 for one in logs}))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_fold_manifest(folder: Path) -> FoldManifest:
    """Read the manifest of a fold; raises :class:`DataError` if it is missing or damaged."""
    return read_record(
        FoldManifest,
        folder / FOLD_MANIFEST,
        "the file is missing; expected a folder that palate fold wrote",
        "fold the log again",
    )
