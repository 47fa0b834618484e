"""Weights of events with types or dwell times."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from palate.data.event_types import DWELL_FACTORS, EventTypes, dwell_edges, weights_of
from palate.data.tabular.events import EventColumns
from palate.data.tabular.settings import OwnData
from palate.errors import DataError
from palate.schema import Doubles
from palate.words import counted


def find_event_types(
    table: pl.DataFrame, columns: EventColumns, own: OwnData, say: Callable[[str], None]
) -> EventTypes | None:
    """Determine the weights of event types and the quintile boundaries of dwell times.

    Args:
        table: Events from :func:`palate.data.tabular.events.read_events`.
        columns: Their columns.
        own: Settings, with given weights.
        say: Called with messages about types and dwell times.

    Returns:
        The weights and boundaries; None if events have neither types nor dwell times.

    Raises:
        DataError: A type has no weight, or no type has a weight above 0.
    """
    if not columns.typed:
        return None
    weights = {} if columns.event_type is None else _weights(table["type"], columns.event_type, own, say)
    edges = dwell_edges(table["dwell"].to_numpy()[_base(table, weights) > 0])
    if edges:
        shown = ", ".join(f"{edge:g}" for edge in edges)
        factors = ", ".join(f"{factor:g}" for factor in DWELL_FACTORS)
        say(f"dwell times multiply weights by {factors}, with boundaries at {shown} seconds")
    return EventTypes(weights=weights, dwell_edges=edges) if weights or edges else None


def valued(table: pl.DataFrame, types: EventTypes) -> pl.DataFrame:
    """Set the events' values by their types and dwell times."""
    values = types.values(_base(table, types.weights), table["dwell"].to_numpy())
    return table.with_columns(value=pl.Series(values))


def _base(table: pl.DataFrame, weights: Mapping[str, float]) -> Doubles:
    """Return the weights of the events' types, [N]; 1 if events have no types."""
    if not weights:
        return np.ones(len(table))
    of_type = table["type"].cast(pl.String).replace_strict(dict(weights), return_dtype=pl.Float64)
    return np.asarray(of_type.to_numpy())


def _weights(kinds: pl.Series, column: str, own: OwnData, say: Callable[[str], None]) -> dict[str, float]:
    counts = kinds.value_counts(sort=True)
    number = dict(zip(counts[kinds.name].cast(pl.String), counts["count"], strict=True))
    weights, unknown = weights_of(number, own.event_weights or {})
    if unknown:
        others = f", and for {counted(len(unknown) - 1, 'other type')}" if unknown[1:] else ""
        example = ",".join(f"{name}=1" for name in unknown[:3])
        raise DataError(
            f"no weight for the event type {unknown[0]!r} in column {column!r} "
            f"({counted(number[unknown[0]], 'event')}){others}; give one, negative if it counts against an item: "
            f"--event-weights {example}"
        )
    listed = ", ".join(f"{name} {weight:g} ({number[name]:,})" for name, weight in weights.items())
    say(f"event types with their weights (--event-weights): {listed}")
    if not any(weight > 0 for weight in weights.values()):
        raise DataError(
            f"no event type has a weight above 0 ({listed}), so that no item counts as chosen; give one with "
            "--event-weights"
        )
    return weights
