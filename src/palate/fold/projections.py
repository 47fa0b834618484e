"""Creates a state builder from a model, and converts folded states to the user encoder's state type."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from palate.data.population import rating_steps
from palate.encoders.batch import CategoryCatalogue, VectorCatalogue
from palate.encoders.catalogue_free import UniversalEncoder
from palate.encoders.counts import CategoryCounts
from palate.encoders.history_parts import HistoryParts, RecentEvents
from palate.encoders.state import UserState
from palate.encoders.streaming import LatentQueries, StreamingEncoder
from palate.errors import MismatchError
from palate.fold.state_builder import (
    RECENT_EVENT,
    LatentProjections,
    StateBuilder,
    StateColumns,
)
from palate.items.categories import CategoryTable
from palate.schema import Ints
from palate.system.machine import reproducible

if TYPE_CHECKING:
    from palate.encoders.base import KeptState
    from palate.model.model import PersonalizedModel

_ITEMS_AT_ONCE = 256
"""Batch size of the projection; constant, so that an item's projection is byte-identical in every run."""


def builder_of(model: PersonalizedModel) -> StateBuilder:
    """Create the state builder of a model.

    Raises:
        MismatchError: The user encoder has no state, or reads texts of events.
    """
    encoder, table = model.keeper, model.table
    if not isinstance(encoder, StreamingEncoder | UniversalEncoder):
        kind = model.settings.user_encoder.kind
        raise MismatchError(
            f"a {kind!r} user encoder has no states to fold; expected 'streaming' or 'universal'"
        )
    if model.settings.event_texts:
        raise MismatchError(
            "the model reads the texts of events, and states are folded without texts; serve it, or train it with "
            "model.event_texts=false"
        )
    latent = encoder if isinstance(encoder, StreamingEncoder) else encoder.latent
    counted = isinstance(table, CategoryTable) and isinstance(encoder, UniversalEncoder)
    if counted:
        assert isinstance(table, CategoryTable)
        items, category = np.nonzero(table.membership)
        part = table.membership[items, category].astype(np.int64)
        member = np.searchsorted(items, np.arange(len(table) + 1))
        category_ids, steps = table.category_ids, rating_steps([float(one) for one in table.rating_values])
    else:
        category = part = member = category_ids = steps = np.zeros(0, dtype=np.int64)
        member = np.zeros(len(table) + 1, dtype=np.int64)
    with reproducible(1, model.device):  # the bytes depend on the number of threads
        projected = None if latent is None else _projected(latent, model.catalogue)
    return StateBuilder(
        item_ids=list(table.item_ids),
        rating_values=np.asarray(table.rating_values, dtype=np.float32),
        member=member.astype(np.int64),
        category=category.astype(np.int32),
        part=part.astype(np.int16),
        category_ids=category_ids.astype(np.int64),
        steps=steps.astype(np.int64),
        latent=projected,
    )


@torch.inference_mode()
def _projected(queries: LatentQueries, catalogue: object) -> LatentProjections:
    vectors = catalogue.vectors if isinstance(catalogue, CategoryCatalogue) else catalogue
    assert isinstance(vectors, VectorCatalogue)
    reader = queries.reader
    kind = reader.key.weight.dtype
    logits, values = [], []
    for start in range(0, len(vectors.item_vectors), _ITEMS_AT_ONCE):
        items = vectors.item_vectors[start : start + _ITEMS_AT_ONCE].flatten(1).to(kind)  # [N, F·S]
        there = len(items)
        items = functional.pad(items, (0, 0, 0, _ITEMS_AT_ONCE - there))
        logits.append(functional.logsigmoid(reader.key(items).float())[:there].cpu())
        values.append(reader.item_value(items).float()[:there].cpu())
    numbers = vectors.rating_numbers[:, None].to(kind)
    ratings = torch.cat([numbers, reader.rating_value(numbers)], dim=-1).float().cpu()
    decay = torch.zeros(logits[0].shape[1], dtype=torch.float64)
    if reader.decay is not None:
        decay = functional.softplus(reader.decay).double().cpu()
    return LatentProjections(
        torch.cat(logits).numpy(), torch.cat(values).numpy(), ratings.numpy(), decay.numpy()
    )


def kept_states(columns: StateColumns, builder: StateBuilder) -> KeptState:
    """Convert the states of a block of B users to the user encoder's state type.

    Raises:
        ValueError: The columns do not match the builder, or each other.
    """
    latent = None if builder.latent is None else _latent(columns, builder.latent)
    if not len(builder.steps):
        assert latent is not None
        return latent
    return HistoryParts(_counts(columns, len(builder.category_ids)), _recent(columns), latent)


def _latent(columns: StateColumns, projections: LatentProjections) -> UserState:
    offsets, content = columns.parts["latent"]
    records = _records(offsets, content, projections.record)
    each = {one.name: np.ascontiguousarray(records[one.name]) for one in fields(UserState)}
    return UserState(**{name: torch.from_numpy(column) for name, column in each.items()})


def _counts(columns: StateColumns, categories: int) -> CategoryCounts:
    offsets, content = columns.parts["counts"]
    rows = _records(offsets, content, np.dtype(("<i8", (3 * categories + 2,)))).astype(np.int64)
    each = torch.from_numpy(rows.reshape(len(offsets) - 1, -1))
    count, total, squares = (each[:, at * categories : (at + 1) * categories] for at in range(3))
    return CategoryCounts(count, total, squares, each[:, -2], each[:, -1])


def _recent(columns: StateColumns) -> RecentEvents:
    offsets, content = columns.parts["recent"]
    sizes, each = np.diff(offsets), RECENT_EVENT.itemsize
    if (sizes % each).any() or (sizes < each).any():
        raise ValueError("the size of the part 'recent' is not a multiple of an event's")
    records = content.view(RECENT_EVENT)
    starts = offsets[:-1] // each
    number = sizes // each - 1
    width = int(number.max(initial=0))
    stands = np.arange(width) < number[:, None]
    rows = np.where(stands, starts[:, None] + 1 + np.arange(width), 0)
    made = {
        name: torch.from_numpy(np.where(stands, records[name][rows], 0).astype(np.int64))
        for name in ("item", "rating", "time", "event")
    }
    heads = records[starts]
    none = heads["item"] < 0
    long_ago = np.iinfo(np.int64).min
    since = np.stack(
        [np.where(none, long_ago, heads[name].astype(np.int64)) for name in ("time", "item")], axis=1
    )
    return RecentEvents(
        **made, number=torch.from_numpy(number.astype(np.int64)), since=torch.from_numpy(since)
    )


def _records(offsets: Ints, content: np.ndarray, kind: np.dtype[np.generic]) -> np.ndarray:
    if len(content) != (len(offsets) - 1) * kind.itemsize or (np.diff(offsets) != kind.itemsize).any():
        raise ValueError(f"a state has {np.diff(offsets).max(initial=0)} bytes, expected {kind.itemsize}")
    return np.array(np.frombuffer(content.tobytes(), dtype=kind))
