"""Finds and loads the generative recommenders of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from palate.generative.parts import GenerativeQuestion, read_header
from palate.generative.recommender import GenerativeRecommender
from palate.runs.run import load_run


def load_generative(
    run: Path | str, asked: GenerativeQuestion | None = None, device: str | torch.device = "auto"
) -> GenerativeRecommender:
    """Load a recommender that was trained by a recipe with a section ``generative``.

    Args:
        run: The run's folder, or ``OWNER/NAME`` for one of the hub.
        asked: Inference settings; the defaults if None.
        device: Device of the model.

    Returns:
        The recommender.

    Raises:
        DataError: The folder is not such a run, or a file is damaged.
    """
    load_run(run)
    found = GenerativeRecommender.from_pretrained(run, device=device)
    return found if asked is None else replace(found, asked=asked)


def trained_steps(run: Path | str) -> int:
    """Return the optimizer steps of a run's training; raises :class:`DataError` as :func:`load_generative` does."""
    return read_header(load_run(run).model).steps
