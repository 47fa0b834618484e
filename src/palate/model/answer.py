"""A single answer about a history, with the interactions that the model read, as ``palate generate`` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.encoders.base import UserPrompt
from palate.errors import MismatchError
from palate.model.named import find_model
from palate.model.wording import check_instruction
from palate.schema import History, Item
from palate.system.device import describe_device
from palate.tasks.verbalizer import NO_ANSWER, Verbalizer

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.model import PersonalizedModel


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
    """Device of the computation."""
    expected_f1: float | None = None
    """Expected F1 of the answer's liked categories under the user encoder's probabilities; None without a promise."""


def answer(
    run: Path,
    history: History,
    new_items: Sequence[Item] = (),
    instruction: str | None = None,
    backbone: str | None = None,
    device: str | torch.device = "auto",
    constrained: bool | None = None,
    data: Dataset | Path | None = None,
    promise: float | None = None,
) -> Answer:
    """Generate a run's answer about a history.

    Args:
        run: The run's folder, or ``packaged``.
        history: The interactions, of which the model reads the most recent ones.
        new_items: Items of the history that are not in the catalogue, and have to be encoded.
        instruction: The question; None for the trained instruction.
        backbone: Folder of a backbone that is not saved with the model; None for the one that the model names.
        device: Device of the computation; ``auto`` takes the first GPU.
        constrained: Whether decoding is constrained by the task's grammar; None for the model's setting.
        data: Dataset that a model without its own catalogue is bound to.
        promise: Expected F1 below which the model abstains; None to always answer.

    Returns:
        The answer.

    Raises:
        DataError: An item is unknown, a rating is not on the model's scale, or the backbone cannot read the
            instruction.
        MismatchError: The instruction exceeds the backbone's context length, there is no such device, or a promise is
            given for a model without probabilities or with another question than the trained one.
    """
    if promise is not None and instruction is not None:
        raise MismatchError(
            "a promise is for the trained instruction only; leave out the promise or the instruction"
        )
    named = find_model(run, backbone, data)
    if instruction is not None:
        check_instruction(run, named.settings, instruction, backbone)
    model = named.load(device, constrained).with_items(new_items)
    user = model.encode([history])
    text, expected = model.generate_from(user, instruction)[0], None
    if promise is not None:
        expected = _expected_f1(model, user, text)
        text = text if expected >= promise else NO_ANSWER
    read = model.visible(history)
    columns = zip(read.item_ids, read.ratings, read.timestamps, strict=True)
    window = [Interaction(*row) for row in columns]
    asked = instruction or model.settings.instruction
    return Answer(history.user_id, asked, text, window, describe_device(model.device), expected)


def _expected_f1(model: PersonalizedModel, user: UserPrompt, text: str) -> float:
    """Compute the expected F1 of the liked categories in an answer about one encoded user."""
    settings = model.settings
    most = settings.task.max_labels
    said = Verbalizer(settings.categories, settings.category_field, most).read([text])
    named = np.isin(np.arange(len(settings.categories)), said.liked[0])[None]
    if (expected := user.expected_f1(named, most)) is None:
        raise MismatchError(
            f"a promise needs a user encoder that predicts probabilities, which {settings.user_encoder.kind!r} does "
            "not; leave the promise out"
        )
    return float(expected[0])
