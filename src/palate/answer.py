"""One answer about one history, with the window that it was given for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.model.personalized import load_model
from palate.schema import History, Item


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


def answer(
    run: Path, history: History, new_items: Sequence[Item] = (), instruction: str | None = None
) -> Answer:
    """Ask a run's model about a history, whose new items are encoded first.

    Raises :class:`DataError` for items that are neither new nor known, and for ratings that are not on the
    model's scale.
    """
    model = load_model(run).with_items(new_items)
    text = model.generate([history], instruction)[0]
    read = model.visible(history)
    columns = zip(read.item_ids, read.ratings, read.timestamps, strict=True)
    window = [Interaction(*row) for row in columns]
    return Answer(history.user_id, instruction or model.settings.instruction, text, window)
