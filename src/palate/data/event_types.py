"""Types of events, such as views, purchases and skips: what each weighs, and how its dwell time changes that."""

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
"""Factors of an event's weight by which fifth of the dwell times its own is in, the shortest first."""

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
"""Types of events that are known, by what they weigh where nobody says."""


def type_name(written: str) -> str:
    """Normalise how a type is written: ``AddToCart`` and ``Add to cart`` are ``add_to_cart``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written.strip())
    return re.sub(r"[\W_]+", "_", parted.lower()).strip("_") or written.strip()


def _bare(name: str) -> str:
    return name.replace("_", "")


_DEFAULTS = {_bare(name): weight for weight, names in DEFAULT_WEIGHTS.items() for name in names.split()}


def default_weight(name: str) -> float | None:
    """Return the weight of a type that is known by its name, else None."""
    return _DEFAULTS.get(_bare(type_name(name)))


class EventTypes(Frozen):
    """What events of each type weigh; part of ``dataset.json`` where a dataset has event types or dwell times.

    An event's rating value is its weight times the factor of its dwell time. Where the weight is below 0, as of a
    skip, it speaks against the item: the value is 0.
    """

    weights: dict[str, float] = Field(default_factory=dict)
    """By normalised type; empty where events have no types, and count 1."""
    dwell_edges: tuple[float, ...] = ()
    """Ascending dwell times in seconds between :data:`DWELL_FACTORS`; empty where events have none."""

    def value(self, event_type: str | None, dwell: float | None = None) -> float:
        """Compute the rating value of an event.

        Args:
            event_type: Its type as it is written; None only where events have no types.
            dwell: Its dwell time in seconds; None if it has none.

        Raises:
            FieldError: The type is missing or unknown, or given where events have none.
        """
        weight = self._weight(event_type)
        if dwell is not None and not self.dwell_edges:
            raise FieldError("there is a dwell, but the data has no dwell times; leave it out")
        if dwell is not None and dwell < 0:
            raise FieldError(f"dwell is {dwell:g}, expected seconds from 0")
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
        """Return what events of each rating value weigh: itself, or where it is 0 the mean of the types' weights."""
        against = [weight for weight in self.weights.values() if weight <= 0]
        lowest = sum(against) / len(against) if against else 0.0
        return tuple(value or lowest for value in rating_values)

    def names_of(self, value: float) -> tuple[str, ...]:
        """List the types whose events have a rating value without a dwell time."""
        return tuple(name for name, weight in self.weights.items() if max(weight, 0.0) == value)

    @property
    def in_words(self) -> str:
        """List the types with their weights, and where dwell times are divided."""
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
"""What an event without a rating weighs: a number, by its type, or None where a rating is required."""


def dwell_edges(dwell: Doubles) -> tuple[float, ...]:
    """Return the dwell times between fifths of the events that have one: of ``dwell`` [N]."""
    shares = np.arange(1, len(DWELL_FACTORS)) / len(DWELL_FACTORS)
    known = np.sort(dwell[~np.isnan(dwell)])
    return tuple(known[(shares * len(known)).astype(np.int64)].tolist()) if len(known) else ()


def weights_of(found: Iterable[str], given: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Return the weights of the types in the data, given or by default, and the types that have none."""
    named = {type_name(name): weight for name, weight in given.items()}
    weights, unknown = {}, []
    for name in found:
        weight = named.get(name, default_weight(name))
        if weight is None:
            unknown.append(name)
        else:
            weights[name] = weight
    return dict(sorted(weights.items(), key=lambda pair: (pair[1], pair[0]))), unknown
