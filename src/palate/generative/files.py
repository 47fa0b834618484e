"""Files of a generative recommender: ``generative.json``, the weights, and the backbone's configuration."""

from __future__ import annotations

from pathlib import Path

import torch

from palate.backbones.t5 import rebuild_t5
from palate.config.generative import AnyGenerativeSettings
from palate.errors import DataError
from palate.generative.p5 import IdLanguageModel
from palate.generative.recommender import GenerativeFacts, GenerativeQuestion, GenerativeRecommender
from palate.model.weights import load_whole, save_whole
from palate.runs.run import load_run
from palate.system.device import find_device
from palate.system.files import fresh_folder, write_json
from palate.system.records import Frozen, read_record

HEADER, WEIGHTS, BACKBONE = "generative.json", "generative.safetensors", "backbone"
FORMAT = 1
_AGAIN = "copy the run again, or train it again"


class _Header(Frozen):
    """Contents of ``generative.json``."""

    format: int = FORMAT
    settings: AnyGenerativeSettings
    facts: GenerativeFacts
    steps: int = 0
    """Optimizer steps of the training."""


def save_generative(recommender: GenerativeRecommender, folder: Path, steps: int) -> None:
    """Save a recommender atomically to a new or empty folder; raises :class:`OutputError` if that cannot be done."""
    header = _Header(settings=recommender.model.settings, facts=recommender.facts, steps=steps)
    with fresh_folder(folder) as place:
        (place / BACKBONE).mkdir()
        recommender.model.backbone.save(place / BACKBONE)
        save_whole(recommender.model, place / WEIGHTS)
        write_json(place / HEADER, header.model_dump(mode="json"))


def load_generative(
    run: Path | str, asked: GenerativeQuestion | None = None, device: str | torch.device = "auto"
) -> GenerativeRecommender:
    """Load the recommender that ``palate train`` wrote by a recipe with a section ``generative``.

    Args:
        run: The run's folder.
        asked: How it is asked.
        device: Device of the model.

    Returns:
        The recommender.

    Raises:
        DataError: The folder is no such run, or a file is damaged.
    """
    folder = load_run(run).model
    header = _header(folder)
    model = IdLanguageModel(rebuild_t5(folder / BACKBONE), header.settings, header.facts.item_names)
    load_whole(model, folder / WEIGHTS)
    return GenerativeRecommender(
        model.to(find_device(device)).eval(), header.facts, asked or GenerativeQuestion()
    )


def trained_steps(run: Path | str) -> int:
    """Return the optimizer steps of a run's training; raises :class:`DataError` as :func:`load_generative` does."""
    return _header(load_run(run).model).steps


def _header(folder: Path) -> _Header:
    header = read_record(
        _Header,
        folder / HEADER,
        "no such recommender; train one by a recipe with a section 'generative'",
        _AGAIN,
    )
    if header.format != FORMAT:
        raise DataError(
            f"format {header.format}, but this palate reads format {FORMAT}; train it again", folder
        )
    return header
