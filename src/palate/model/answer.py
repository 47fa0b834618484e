"""One answer about one history, with the interactions that the model read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from palate.model.named import find_model
from palate.model.wording import check_instruction
from palate.schema import History, Item
from palate.system.device import describe_device

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


@dataclass(frozen=True)
class Interaction:
    """An interaction that the model read."""

    item_id: str
    rating: float
    timestamp: int


@dataclass(frozen=True)
class Answer:
    """An answer of the model, with its question and window."""

    user_id: str
    instruction: str
    text: str
    window: list[Interaction]
    device: str
    """Device on which it was computed."""


def answer(
    run: Path,
    history: History,
    new_items: Sequence[Item] = (),
    instruction: str | None = None,
    backbone: str | None = None,
    device: str | torch.device = "auto",
    constrained: bool | None = None,
    data: Dataset | Path | None = None,
) -> Answer:
    """Generate a run's answer about a history.

    Args:
        run: The run's folder, or ``packaged``.
        history: The interactions, of which the model reads the most recent ones.
        new_items: Items of the history that are not in the catalogue; they are encoded first.
        instruction: The question; the trained instruction if None.
        backbone: Folder of a backbone that is not saved with the model, if it has moved.
        device: Device of the computation.
        constrained: Whether the answer is constrained to what the task allows; as the model was saved if None.
        data: Dataset to bind a model to whose weights know no catalogue.

    Returns:
        The answer.

    Raises:
        DataError: An item is unknown, a rating is not on the model's scale, or the backbone cannot read the
            instruction.
        MismatchError: The instruction is longer than the backbone's context, or there is no such device.
    """
    named = find_model(run, backbone, data)
    if instruction is not None:
        check_instruction(run, named.settings, instruction, backbone)
    model = named.load(device, constrained).with_items(new_items)
    text = model.generate([history], instruction)[0]
    read = model.visible(history)
    columns = zip(read.item_ids, read.ratings, read.timestamps, strict=True)
    window = [Interaction(*row) for row in columns]
    asked = instruction or model.settings.instruction
    return Answer(history.user_id, asked, text, window, describe_device(model.device))
