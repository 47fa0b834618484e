"""What a training has learned before its last stages, so that an interrupted one goes on from there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from palate.recommend.scorer import ScorerWeights
from palate.system.files import write_json
from palate.system.records import Frozen, read_record

PROGRESS = "weights.json"


class FitProgress(Frozen):
    """What was learned on held-out interactions, which takes most of a training's time."""

    format: int
    """That of the recommender's files: weights of another version are learned again."""
    ordered: bool
    ridge: float | None
    weights: ScorerWeights | None
    epochs: int
    random: str
    """State of the random number generator after it, as JSON, so that the result is the same."""


def read_progress(folder: Path, format: int) -> FitProgress | None:
    """Read what a training has kept; None where it has kept nothing of this format.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / PROGRESS
    if not path.is_file():
        return None
    found = read_record(FitProgress, path, "the file is missing", "remove it to learn the weights again")
    return found if found.format == format else None


def write_progress(folder: Path, progress: FitProgress) -> None:
    """Keep what was learned, atomically."""
    write_json(folder / PROGRESS, progress.model_dump(mode="json"))


def generator_state(rng: np.random.Generator) -> str:
    """Write the state of a generator, which :func:`set_generator_state` sets again."""
    return json.dumps(rng.bit_generator.state)


def set_generator_state(rng: np.random.Generator, state: str) -> None:
    """Set the state of a generator."""
    rng.bit_generator.state = json.loads(state)
