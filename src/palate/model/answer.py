"""One answer about one history, with the window that it was given for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from palate.model.config import check_model
from palate.model.model import load_model
from palate.model.wording import check_instruction
from palate.schema import History, Item
from palate.system.device import describe_device


@dataclass(frozen=True)
class Interaction:
    """An interaction that was read, by external id."""

    item_id: str
    rating: float
    timestamp: int


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it was asked."""

    user_id: str
    instruction: str
    text: str
    window: list[Interaction]
    device: str
    """Where it was computed."""


def answer(
    run: Path,
    history: History,
    new_items: Sequence[Item] = (),
    instruction: str | None = None,
    backbone: str | None = None,
    device: str | torch.device = "auto",
) -> Answer:
    """Ask a run's model about a history.

    Args:
        run: The run's folder.
        history: The interactions, of which the model reads the most recent ones.
        new_items: Items of the history that the catalogue does not have; they are encoded first.
        instruction: What to ask; the trained instruction when not given.
        backbone: Where a backbone that was not saved with the model lies now, if it has moved.
        device: Where to compute.

    Raises:
        DataError: For items that are neither new nor known, ratings that are not on the model's scale, and an
            instruction that says nothing to the backbone.
        MismatchError: For an instruction that is longer than the backbone reads, and a device that is not there.
    """
    settings = check_model(run, backbone)
    if instruction is not None:
        check_instruction(run, settings, instruction, backbone)
    model = load_model(run, backbone, device=device).with_items(new_items)
    text = model.generate([history], instruction)[0]
    read = model.visible(history)
    columns = zip(read.item_ids, read.ratings, read.timestamps, strict=True)
    window = [Interaction(*row) for row in columns]
    asked = instruction or model.settings.instruction
    return Answer(history.user_id, asked, text, window, describe_device(model.device))
