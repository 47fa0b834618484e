"""Input batches of user encoders: windows as indices, and the item and rating vectors that they refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from palate.errors import DataError, rating_off_scale
from palate.items.event_texts import encoded_texts
from palate.items.table import off_scale
from palate.schema import EventTexts, Floats, History, RatingIndices, Windows

if TYPE_CHECKING:
    from typing_extensions import NotRequired, Unpack

    from palate.items.blocks import BlockTable
    from palate.items.categories import CategoryTable
    from palate.items.table import ItemTable


SECONDS_A_DAY = 86_400


class WindowTensors(TypedDict):
    """Windows of B users as indices: the arguments of each catalogue and of the model's ``forward``."""

    unique: Tensor
    """Distinct items of the batch, as indices into the catalogue, [N]."""
    item: Tensor
    """Items of the windows, as indices into ``unique``, [B, P]."""
    rating: Tensor
    """Rating indices, [B, P]."""
    mask: Tensor
    """True at interactions, False at padding, [B, P]."""
    time: Tensor
    """Days since 1970, float64, [B, P]."""
    complete: NotRequired[Tensor]
    """True where a window is known to be the full history, [B]; all False if absent."""
    event: NotRequired[Tensor]
    """Integers that identify the interactions (:func:`event_number`), [B, P]; 0 without an id."""
    texts: NotRequired[Tensor]
    """Embeddings of the events' texts, [B, P, S], zeros for events without text; absent if no event has one."""


@dataclass(frozen=True, eq=False)
class EventBatch:
    """Windows of B users; ``item_vectors`` holds each distinct item of the batch once or, with texts, each event."""

    item_vectors: Tensor  # [N, F, S]; the last field is the event's text, if texts are read
    item: Tensor  # [B, P] into item_vectors
    rating_vectors: Tensor  # [R, S]
    rating_numbers: Tensor  # [R] rating values, mapped linearly to -1 to 1
    rating: Tensor  # [B, P] into rating_vectors
    mask: Tensor  # [B, P] true at interactions, false at padding
    time: Tensor  # [B, P] float64 days since 1970

    @property
    def sizes(self) -> tuple[int, int]:
        """B and P."""
        return self.item.shape[0], self.item.shape[1]


class VectorCatalogue(nn.Module):
    """Item and rating vectors on the model's device, looked up by index.

    The vectors are constants, not weights: they are not part of the state dict.

    Args:
        table: The items.
        event_texts: Whether events have one more field, the embedding of the text that the user wrote.
    """

    item_vectors: Tensor
    rating_vectors: Tensor
    rating_numbers: Tensor

    def __init__(self, table: ItemTable, event_texts: bool = False) -> None:
        super().__init__()
        self.event_texts = event_texts
        values = torch.as_tensor(table.rating_values, dtype=torch.float32)
        lowest, highest = float(values.min()), float(values.max())
        numbers = (values - (lowest + highest) / 2) / max((highest - lowest) / 2, 1e-6)
        self.register_buffer("item_vectors", torch.as_tensor(table.vectors), persistent=False)
        self.register_buffer("rating_vectors", torch.as_tensor(table.rating_vectors), persistent=False)
        self.register_buffer("rating_numbers", numbers, persistent=False)

    def forward(self, **windows: Unpack[WindowTensors]) -> EventBatch:
        """Look up the vectors of a batch."""
        items, item = self.item_vectors[windows["unique"]], windows["item"]
        if self.event_texts:
            items, item = _with_texts(items, item, windows.get("texts"))
        return EventBatch(
            items,
            item,
            self.rating_vectors,
            self.rating_numbers,
            windows["rating"],
            windows["mask"],
            windows["time"],
        )


def _with_texts(items: Tensor, item: Tensor, texts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return one item per event, [B * P, F + 1, S], whose last field is the event's text, or zeros."""
    each = items[item.flatten()]  # [B * P, F, S]
    text = torch.zeros_like(each[:, :1]) if texts is None else texts.to(each.dtype).flatten(0, 1)[:, None]
    return torch.cat([each, text], dim=1), _numbered(item)


def _numbered(item: Tensor) -> Tensor:
    return torch.arange(item.numel(), device=item.device).reshape(item.shape)


@dataclass(frozen=True, eq=False)
class CategoryEvents:
    """Windows of B users; ``membership`` holds each distinct item of the batch once."""

    membership: Tensor  # [N, L] int16, in units of 1/MEMBER
    item: Tensor  # [B, P] into membership
    index: Tensor  # [B, P] into the catalogue
    rating: Tensor  # [B, P] into the rating values
    mask: Tensor  # [B, P] true at interactions, false at padding
    time: Tensor  # [B, P] int64 seconds since 1970
    complete: Tensor | None  # [B] true where the window is known to be the full history
    event: Tensor  # [B, P] integers that identify the interactions, 0 without an id
    vectors: EventBatch | None = None
    """The same interactions with the vectors of their items; None if the table has none."""


class CategoryCatalogue(nn.Module):
    """Categories of the items on the model's device, looked up by index; they are constants, not weights."""

    membership: Tensor

    def __init__(self, table: CategoryTable, event_texts: bool = False) -> None:
        super().__init__()
        self.register_buffer("membership", torch.as_tensor(table.membership), persistent=False)
        self.vectors = None if table.vectors is None else VectorCatalogue(table.vectors, event_texts)

    def forward(self, **windows: Unpack[WindowTensors]) -> CategoryEvents:
        """Look up the categories of a batch."""
        unique, item = windows["unique"], windows["item"]
        index, membership = unique[item], self.membership[unique]
        if self.vectors is not None and self.vectors.event_texts:  # then each event has its own item vector
            membership, item = membership[item.flatten()], _numbered(item)
        return CategoryEvents(
            membership=membership,
            item=item,
            index=index,
            rating=windows["rating"],
            mask=windows["mask"],
            time=(windows["time"] * SECONDS_A_DAY).round().long(),
            complete=windows.get("complete"),
            event=windows.get("event", torch.zeros_like(item)),
            vectors=None if self.vectors is None else self.vectors(**windows),
        )


def window_tensors(windows: Windows, device: torch.device | str = "cpu") -> WindowTensors:
    """Convert windows to the arguments of a catalogue, on a device."""
    unique, inverse = np.unique(windows.item_index, return_inverse=True)
    tensors: WindowTensors = {
        "unique": torch.from_numpy(unique.astype(np.int64)).to(device),
        "item": torch.from_numpy(inverse.reshape(windows.item_index.shape).astype(np.int64)).to(device),
        "rating": torch.from_numpy(windows.rating_index.astype(np.int64)).to(device),
        "mask": torch.from_numpy(windows.mask).to(device),
        "time": torch.from_numpy(windows.timestamp / SECONDS_A_DAY).to(device),
        "complete": torch.from_numpy(windows.known_complete).to(device),
    }
    if windows.event_number is not None:
        tensors["event"] = torch.from_numpy(windows.event_number).to(device)
    if windows.texts is not None:
        tensors["texts"] = torch.from_numpy(windows.texts.each).to(device)
    return tensors


def event_number(event_id: str | None) -> int:
    """Return the integer that identifies an event in states: 63 bits of the SHA-256 of its id; 0 without an id."""
    if not event_id:
        return 0
    return int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:8], "little") >> 1


def windows_of(
    histories: Sequence[History],
    table: ItemTable | BlockTable | CategoryTable,
    size: int | None = None,
    repeats: bool = False,
    encode: Callable[[Sequence[str]], Floats] | None = None,
) -> Windows:
    """Convert histories to windows of indices.

    Args:
        histories: B histories, oldest interaction first.
        table: The known items and the rating scale.
        size: Maximum number of interactions per user; the most recent are kept. None for all.
        repeats: Whether repeated interactions with an item are kept.
        encode: Converts the events' texts to vectors [N, S]; None if texts are not read.

    Returns:
        Windows [B, P] of the interactions that :meth:`History.latest` keeps.

    Raises:
        DataError: An item is unknown, a rating is not on the scale, or the columns of a history differ in length.
    """
    for history in histories:
        _check_columns(history)
    histories = [history.latest(size, repeats) for history in histories]
    length = np.array([len(history) for history in histories], dtype=np.int64)
    shape = (len(histories), int(length.max(initial=1)))  # transformers' layers take no empty window
    item, rating = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.uint8)
    timestamp = np.zeros(shape, dtype=np.int64)
    number = np.zeros(shape, dtype=np.int64) if any(history.event_ids for history in histories) else None
    for row, (history, count) in enumerate(zip(histories, length, strict=True)):
        if count:
            item[row, :count] = table.index_of(history.item_ids)
            rating[row, :count] = _rating_indices(history, table)
            timestamp[row, :count] = history.timestamps
        if number is not None and history.event_ids:
            number[row, :count] = [event_number(one) for one in history.event_ids]
    texts = None if encode is None else _texts(histories, shape, encode)
    return Windows(item, rating, timestamp, length, event_number=number, texts=texts)


def _texts(
    histories: Sequence[History], shape: tuple[int, int], encode: Callable[[Sequence[str]], Floats]
) -> EventTexts | None:
    """Encode the texts of windows [B, P]; None if there are none."""
    padded = [[*history.texts, *[""] * (shape[1] - len(history.texts))] for history in histories]
    found = encoded_texts((text for texts in padded for text in texts), encode)
    return found and EventTexts(found.row.reshape(shape), found.vectors)


def _check_columns(history: History) -> None:
    items, ratings, timestamps = map(len, (history.item_ids, history.ratings, history.timestamps))
    if not items == ratings == timestamps:
        raise DataError(
            f"user {history.user_id!r} has {items} item ids, {ratings} ratings and {timestamps} timestamps; "
            "each interaction needs one of each"
        )
    if len(history.texts) not in (0, items):
        raise DataError(
            f"user {history.user_id!r} has {items} item ids and {len(history.texts)} texts; give each interaction one "
            "('' for none), or none at all"
        )
    if len(history.event_ids) not in (0, items):
        raise DataError(
            f"user {history.user_id!r} has {items} item ids and {len(history.event_ids)} event ids; give each "
            "interaction one ('' for none), or none at all"
        )


def _rating_indices(history: History, table: ItemTable | BlockTable | CategoryTable) -> RatingIndices:
    values, ratings = table.rating_values, np.asarray(history.ratings, dtype=np.float32)
    if wrong := off_scale(values, ratings.tolist()):
        raise DataError(f"user {history.user_id!r}: {rating_off_scale(wrong[0], values)}")
    return np.searchsorted(values, ratings).astype(np.uint8)
