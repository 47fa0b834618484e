"""One answer about one history, with the window that it was given for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.items.encoder import ItemEncoder
from palate.items.table import ItemTable
from palate.model.personalized import PersonalizedModel, Table, load_model
from palate.runs import load_run
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
    model = load_model(run)
    if new_items:
        model = with_new_items(model, run, new_items)
    text = model.generate([history], instruction)[0]
    columns = zip(history.item_ids, history.ratings, history.timestamps, strict=True)
    window = [Interaction(*row) for row in columns][-model.settings.window :]
    return Answer(history.user_id, instruction or model.settings.instruction, text, window)


def with_new_items(model: PersonalizedModel, run: Path, new_items: Sequence[Item]) -> PersonalizedModel:
    """Let a run's model read items that its catalogue does not have; they are encoded here."""
    table = model.table
    if isinstance(table, ItemTable):
        extended: Table = table.extended(new_items, ItemEncoder(load_run(run).recipe.items))
    else:
        extended = table.extended(new_items)
    return model.with_table(extended)
