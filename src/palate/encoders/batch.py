"""Input batches of user encoders: indices, and the vectors that they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from palate.errors import DataError, rating_off_scale
from palate.items.table import off_scale
from palate.schema import History, RatingIndices, Windows

if TYPE_CHECKING:
    from palate.items.blocks import BlockTable
    from palate.items.categories import CategoryTable
    from palate.items.table import ItemTable


SECONDS_A_DAY = 86_400


@dataclass(frozen=True, eq=False)
class EventBatch:
    """Windows of B users; ``item_vectors`` holds each distinct item of the batch once."""

    item_vectors: Tensor  # [N, F, S]
    item: Tensor  # [B, P] into item_vectors
    rating_vectors: Tensor  # [R, S]
    rating_numbers: Tensor  # [R] the scale, moved and stretched to run from -1 to 1
    rating: Tensor  # [B, P] into rating_vectors
    mask: Tensor  # [B, P] true where an interaction stands
    time: Tensor  # [B, P] float64 days since 1970

    @property
    def sizes(self) -> tuple[int, int]:
        """B and P."""
        return self.item.shape[0], self.item.shape[1]


class VectorCatalogue(nn.Module):
    """Item and rating vectors on the model's device, looked up by index.

    The vectors are constants, not weights: they are not part of the state dict.
    """

    item_vectors: Tensor
    rating_vectors: Tensor
    rating_numbers: Tensor

    def __init__(self, table: ItemTable) -> None:
        super().__init__()
        values = torch.as_tensor(table.rating_values, dtype=torch.float32)
        lowest, highest = float(values.min()), float(values.max())
        numbers = (values - (lowest + highest) / 2) / max((highest - lowest) / 2, 1e-6)
        self.register_buffer("item_vectors", torch.as_tensor(table.vectors), persistent=False)
        self.register_buffer("rating_vectors", torch.as_tensor(table.rating_vectors), persistent=False)
        self.register_buffer("rating_numbers", numbers, persistent=False)

    def forward(
        self,
        unique: Tensor,
        item: Tensor,
        rating: Tensor,
        mask: Tensor,
        time: Tensor,
        complete: Tensor | None = None,
    ) -> EventBatch:
        """Look up a batch.

        Args:
            unique: Distinct items of the batch, as indices into the catalogue, [N].
            item: Items of the windows, as indices into ``unique``, [B, P].
            rating: Rating indices, [B, P].
            mask: True at interactions, False at padding, [B, P].
            time: Days since 1970, float64, [B, P].
            complete: True where a window is known to show the whole history, [B]; not read here.

        Returns:
            The batch with its vectors.
        """
        return EventBatch(
            self.item_vectors[unique], item, self.rating_vectors, self.rating_numbers, rating, mask, time
        )


@dataclass(frozen=True, eq=False)
class CategoryEvents:
    """Windows of B users; ``membership`` holds each distinct item of the batch once."""

    membership: Tensor  # [N, L] int16, in units of 1/MEMBER
    item: Tensor  # [B, P] into membership
    index: Tensor  # [B, P] into the catalogue
    rating: Tensor  # [B, P] into the rating values
    mask: Tensor  # [B, P] true where an interaction stands
    time: Tensor  # [B, P] int64 seconds since 1970
    complete: Tensor | None  # [B] true where these are known to be the whole history


class CategoryCatalogue(nn.Module):
    """Categories of the items on the model's device, looked up by index; they are constants, not weights."""

    membership: Tensor

    def __init__(self, table: CategoryTable) -> None:
        super().__init__()
        self.register_buffer("membership", torch.as_tensor(table.membership), persistent=False)

    def forward(
        self,
        unique: Tensor,
        item: Tensor,
        rating: Tensor,
        mask: Tensor,
        time: Tensor,
        complete: Tensor | None = None,
    ) -> CategoryEvents:
        """Look up a batch; the arguments are those of :meth:`VectorCatalogue.forward`."""
        seconds = (time * SECONDS_A_DAY).round().long()
        return CategoryEvents(self.membership[unique], item, unique[item], rating, mask, seconds, complete)


def window_tensors(windows: Windows) -> dict[str, Tensor]:
    """Convert windows to the arguments of :meth:`VectorCatalogue.forward`."""
    unique, inverse = np.unique(windows.item_index, return_inverse=True)
    return {
        "unique": torch.from_numpy(unique.astype(np.int64)),
        "item": torch.from_numpy(inverse.reshape(windows.item_index.shape).astype(np.int64)),
        "rating": torch.from_numpy(windows.rating_index.astype(np.int64)),
        "mask": torch.from_numpy(windows.mask),
        "time": torch.from_numpy(windows.timestamp / SECONDS_A_DAY),
        "complete": torch.from_numpy(windows.known_complete),
    }


def windows_of(
    histories: Sequence[History], table: ItemTable | BlockTable | CategoryTable, size: int | None = None
) -> Windows:
    """Convert histories to windows of indices.

    Args:
        histories: B histories, oldest interaction first.
        table: The known items and the rating scale.
        size: Maximum number of interactions, of which the most recent are kept; None for all.

    Returns:
        Windows [B, P] with the last interaction with each item (:meth:`History.latest`).

    Raises:
        DataError: An item is unknown, a rating is not on the scale, or the columns of a history differ in length.
    """
    for history in histories:
        _check_columns(history)
    histories = [history.latest(size) for history in histories]
    length = np.array([len(history) for history in histories], dtype=np.int64)
    shape = (len(histories), int(length.max(initial=1)))  # transformers' layers take no empty window
    item, rating = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.uint8)
    timestamp = np.zeros(shape, dtype=np.int64)
    for row, (history, count) in enumerate(zip(histories, length, strict=True)):
        if count:
            item[row, :count] = table.index_of(history.item_ids)
            rating[row, :count] = _rating_indices(history, table)
            timestamp[row, :count] = history.timestamps
    return Windows(item, rating, timestamp, length)


def _check_columns(history: History) -> None:
    items, ratings, timestamps = map(len, (history.item_ids, history.ratings, history.timestamps))
    if not items == ratings == timestamps:
        raise DataError(
            f"user {history.user_id!r} has {items} item ids, {ratings} ratings and {timestamps} timestamps; "
            "each interaction needs one of each"
        )


def _rating_indices(history: History, table: ItemTable | BlockTable | CategoryTable) -> RatingIndices:
    values, ratings = table.rating_values, np.asarray(history.ratings, dtype=np.float32)
    if wrong := off_scale(values, ratings.tolist()):
        raise DataError(f"user {history.user_id!r}: {rating_off_scale(wrong[0], values)}")
    return np.searchsorted(values, ratings).astype(np.uint8)
