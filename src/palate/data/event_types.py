"""Weights of event types, such as view, purchase and skip, and how dwell times scale them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from pydantic import Field

from palate.data.event_fields import FieldError
from palate.errors import did_you_mean
from palate.schema import Doubles
from palate.system.records import Frozen

DWELL_FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Factors of an event's weight by the quintile of its dwell time, shortest first."""

DEFAULT_WEIGHTS = {
    1.0: "view views viewed product_view item_view page_view detail detail_view pv click clicks clicked open opened "
    "visit visited browse read listen listened play played watch watched stream streamed",
    2.0: "like liked fav favorite favourite wishlist add_to_wishlist bookmark save saved share shared follow "
    "thumbs_up",
    3.0: "cart add_to_cart cart_add basket add_to_basket",
    5.0: "purchase purchased buy bought order ordered transaction conversion checkout sale paid install subscribe "
    "rent booking",
    -1.0: "skip skipped dismiss dismissed hide hidden dislike disliked thumbs_down not_interested unlike unfollow "
    "remove_from_cart cart_remove refund returned",
}
"""Known event types by their default weight."""


def type_name(written: str) -> str:
    """Normalise the spelling of an event type: ``AddToCart`` and ``Add to cart`` become ``add_to_cart``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written.strip())
    return re.sub(r"[\W_]+", "_", parted.lower()).strip("_") or written.strip()


def _bare(name: str) -> str:
    return name.replace("_", "")


_DEFAULTS = {_bare(name): weight for weight, names in DEFAULT_WEIGHTS.items() for name in names.split()}


def default_weight(name: str) -> float | None:
    """Return the default weight of an event type; None if its name is unknown."""
    return _DEFAULTS.get(_bare(type_name(name)))


class EventTypes(Frozen):
    """Weights of event types; part of ``dataset.json`` if a dataset has event types or dwell times.

    An event's rating value is its type's weight times the factor of its dwell time. A negative weight, such as that of
    a skip, counts against the item; its rating value is 0.
    """

    weights: dict[str, float] = Field(default_factory=dict)
    """Weight by normalised type; empty if events have no types, in which case each weighs 1."""
    dwell_edges: tuple[float, ...] = ()
    """Ascending boundaries of dwell times in seconds, between :data:`DWELL_FACTORS`; empty without dwell times."""

    def value(self, event_type: str | None, dwell: float | None = None) -> float:
        """Compute the rating value of an event.

        Args:
            event_type: Its type in any spelling; None only if events have no types.
            dwell: Its dwell time in seconds; None if it has none.

        Raises:
            FieldError: The type is missing or unknown, or a type or dwell time is given that the data does not have.
        """
        weight = self._weight(event_type)
        if dwell is not None and not self.dwell_edges:
            raise FieldError("dwell is given, but the data has no dwell times; leave it out")
        if dwell is not None and dwell < 0:
            raise FieldError(f"dwell is {dwell:g}, expected seconds, at least 0")
        seconds = np.array([math.nan if dwell is None else dwell])
        return float(self.values(np.array([weight]), seconds)[0])

    def values(self, weights: Doubles, dwell: Doubles | None = None) -> Doubles:
        """Compute the rating values of events.

        Args:
            weights: Weights of their types, [N].
            dwell: Dwell times in seconds, NaN where an event has none, [N]; None if no event has one.

        Returns:
            Values, [N], at least 0.
        """
        values = np.maximum(weights, 0.0)
        if dwell is None or not self.dwell_edges:
            return values
        level = np.searchsorted(np.array(self.dwell_edges), dwell, side="right")
        factor = np.array(DWELL_FACTORS)[np.minimum(level, len(DWELL_FACTORS) - 1)]
        return np.asarray(values * np.where(np.isnan(dwell), 1.0, factor))

    def signed(self, rating_values: Sequence[float]) -> tuple[float, ...]:
        """Return the signed weight of each rating value: the value, or for 0 the mean of the weights up to 0."""
        against = [weight for weight in self.weights.values() if weight <= 0]
        lowest = sum(against) / len(against) if against else 0.0
        return tuple(value or lowest for value in rating_values)

    def names_of(self, value: float) -> tuple[str, ...]:
        """List the types whose events have this rating value when they have no dwell time."""
        return tuple(name for name, weight in self.weights.items() if max(weight, 0.0) == value)

    @property
    def in_words(self) -> str:
        """Types with their weights, and boundaries of dwell times, as text."""
        listed = [f"{name} {weight:g}" for name, weight in self.weights.items()]
        if self.dwell_edges:
            listed.append(
                f"dwell times divided at {', '.join(f'{edge:g}' for edge in self.dwell_edges)} seconds"
            )
        return ", ".join(listed)

    def _weight(self, event_type: str | None) -> float:
        if event_type is None:
            if self.weights:
                raise FieldError(f"no event_type and no rating; the types are {', '.join(self.weights)}")
            return 1.0
        if not self.weights:
            raise FieldError(f"event_type is {event_type!r}, but the data has no event types; give a rating")
        found = self.weights.get(type_name(event_type))
        if found is None:
            raise FieldError(
                f"event_type is {event_type!r}, expected one of {', '.join(self.weights)}"
                f"{did_you_mean(type_name(event_type), self.weights)}"
            )
        return found


Unrated: TypeAlias = "float | EventTypes | None"
"""Weight of an event without a rating: a number, weights by type, or None if a rating is required."""


def dwell_edges(dwell: Doubles) -> tuple[float, ...]:
    """Compute the quintile boundaries of dwell times [N] in seconds, ignoring NaN."""
    shares = np.arange(1, len(DWELL_FACTORS)) / len(DWELL_FACTORS)
    known = np.sort(dwell[~np.isnan(dwell)])
    return tuple(known[(shares * len(known)).astype(np.int64)].tolist()) if len(known) else ()


def weights_of(found: Iterable[str], given: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Return the weights of the event types ``found``, given or by default, and the types without a weight."""
    named = {type_name(name): weight for name, weight in given.items()}
    weights, unknown = {}, []
    for name in found:
        weight = named.get(name, default_weight(name))
        if weight is None:
            unknown.append(name)
        else:
            weights[name] = weight
    return dict(sorted(weights.items(), key=lambda pair: (pair[1], pair[0]))), unknown
