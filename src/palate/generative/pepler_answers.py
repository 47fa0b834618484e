"""Explanations of a trained PEPLER for users and items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from palate.encoders.batch import windows_of
from palate.errors import DataError, MismatchError, did_you_mean, unknown_items
from palate.generative.pepler import TOKENS_A_WORD, Pairs
from palate.items.encoder import ItemEncoder
from palate.system.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.generative.pepler_files import TrainedPepler
    from palate.schema import History


class WrittenExplanation(Frozen):
    """A generated explanation of an item for a user."""

    item_id: str
    text: str
    rating: float | None = None
    """The predicted rating, within the scale; None without rating regularisation."""


def explain_items(
    trained: TrainedPepler, user: str | History, item_ids: Sequence[str]
) -> list[WrittenExplanation]:
    """Write an explanation of each item for a user.

    Args:
        trained: The model.
        user: Id of a user who was trained on, or a history of another user.
        item_ids: Items of the run's data.

    Returns:
        An explanation of each item.

    Raises:
        DataError: The user or an item is unknown, or the user was not trained on and has no vector.
        MismatchError: A history is given, and the run has no encoder of histories.
    """
    record, model = trained.record, trained.model
    index, vector = (
        (_index_of(trained, user), None) if isinstance(user, str) else (0, _vector_of(trained, user))
    )
    known = [trained.item_index(one) for one in item_ids]
    if unknown := [one for one, index in zip(item_ids, known, strict=True) if index is None]:
        raise unknown_items(unknown)
    item = torch.tensor(known, device=model.device)
    pairs = Pairs(
        torch.full_like(item, index), item, None if vector is None else vector.expand(len(known), -1)
    )
    texts = model.explain(pairs, TOKENS_A_WORD * model.settings.max_words)
    ratings: list[float | None] = [None] * len(known)
    if model.settings.rating != "none":
        with torch.no_grad():
            found = model.ratings(pairs).clamp(min(record.rating_values), max(record.rating_values))
        ratings = [round(one, 3) for one in found.tolist()]
    most = model.settings.max_words
    return [
        WrittenExplanation(item_id=one, text=" ".join(text.split()[:most]), rating=rating)
        for one, text, rating in zip(item_ids, texts, ratings, strict=True)
    ]


def _index_of(trained: TrainedPepler, user_id: str) -> int:
    index = trained.user_index(user_id)
    if index is None:
        known = did_you_mean(user_id, trained.record.user_ids)
        raise DataError(f"no user {user_id!r} among those of the run{known}")
    if not bool(trained.model.trained[index]):
        raise DataError(
            f"nothing was learned of the user {user_id!r}, who has no vector; give the history of the user, or take a "
            "user of the training"
        )
    return index


def _vector_of(trained: TrainedPepler, history: History) -> torch.Tensor:
    """Compute a user vector [1, E] from the newest events of a history and their texts."""
    encoder, table, read = trained.model.newcomers, trained.model.newcomer_table, trained.record.newcomers
    if encoder is None or table is None or read is None:
        raise MismatchError(
            "the run has no encoder of histories, so that it knows only the users it was trained on; train it with "
            "pepler.newcomer_steps above 0"
        )
    encode = ItemEncoder.of(table.encoder, trained.model.device).fresh if read.event_texts else None
    with torch.no_grad():
        vector: torch.Tensor = encoder(windows_of([history], table, read.window, encode=encode))
    return vector
