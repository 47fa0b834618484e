"""Tuned weights of an interrupted training, from which it resumes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from palate.recommend.scorer import ScorerWeights
from palate.system.files import write_json
from palate.system.records import Frozen, read_record

PROGRESS = "weights.json"


class FitProgress(Frozen):
    """Weights tuned on held-out interactions, which takes most of a training's time."""

    format: int
    """Format of the recommender's files; weights of another format are tuned again."""
    ordered: bool
    ridge: float | None
    weights: ScorerWeights | None
    epochs: int
    random: str
    """State of the random number generator after tuning, as JSON, so that a resumed training gives the same result."""


def read_progress(folder: Path, format: int) -> FitProgress | None:
    """Read the saved weights; None if there are none of this format.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / PROGRESS
    if not path.is_file():
        return None
    found = read_record(FitProgress, path, "the file is missing", "remove it to tune the weights again")
    return found if found.format == format else None


def write_progress(folder: Path, progress: FitProgress) -> None:
    """Write the tuned weights atomically."""
    write_json(folder / PROGRESS, progress.model_dump(mode="json"))


def generator_state(rng: np.random.Generator) -> str:
    """Serialise the state of a generator for :func:`set_generator_state`."""
    return json.dumps(rng.bit_generator.state)


def set_generator_state(rng: np.random.Generator, state: str) -> None:
    """Restore the state of a generator."""
    rng.bit_generator.state = json.loads(state)
