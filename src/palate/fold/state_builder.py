"""Vectorised construction of user states as columns of bytes; a user's bytes depend on that user's events only.

Counts by category and newest events are integers. Latent sums add one event after another in the order of time, so
that the bytes do not depend on the other users of the block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save
from scipy.sparse import csr_matrix

from palate.schema import Doubles, Floats, Ints

Bytes: TypeAlias = npt.NDArray[np.uint8]
RECENT = 50
"""Number of newest events that are kept per user, as in :mod:`palate.encoders.history_parts`."""
RECENT_EVENT = np.dtype([("item", "<i4"), ("rating", "u1"), ("time", "<i8"), ("event", "<i8")])
"""A record of the part ``recent``; the first record is the newest dropped event, with item -1 if there is none."""
SECONDS_A_DAY = 86_400
LOWEST = -(2.0**24)
NOTHING = -(2**30)
"""Constants of :mod:`palate.encoders.state`."""
_EVENTS_AT_ONCE = 1 << 18


@dataclass(frozen=True, eq=False)
class UserEvents:
    """Live events of B users, sorted by user, time, item, event id and rating."""

    offsets: Ints  # [B + 1]: user b owns rows offsets[b] to offsets[b + 1]
    item: npt.NDArray[np.int32]  # [N] into the catalogue
    rating: npt.NDArray[np.uint8]  # [N] into the rating values
    time: Ints  # [N] seconds since 1970
    event: Ints  # [N] integers of the event ids, 0 without an id

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of_users(self, start: int, stop: int) -> UserEvents:
        """Select the users from ``start`` to before ``stop``."""
        rows = slice(int(self.offsets[start]), int(self.offsets[stop]))
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        return UserEvents(offsets, self.item[rows], self.rating[rows], self.time[rows], self.event[rows])


@dataclass(frozen=True, eq=False)
class StateColumns:
    """Packed states of B users: for each part, one row of bytes per user."""

    parts: dict[str, tuple[Ints, Bytes]]
    """Offsets [B + 1] and the bytes that they refer to, by part."""

    def __len__(self) -> int:
        return len(next(iter(self.parts.values()))[0]) - 1

    def taken(self, rows: Ints) -> StateColumns:
        """Select users by their indices [B'], in that order."""
        parts = {}
        for name, (offsets, content) in self.parts.items():
            sizes = np.diff(offsets)[rows]
            ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            shift = np.repeat(offsets[:-1][rows] - ends[:-1], sizes)
            parts[name] = (ends, content[np.arange(ends[-1]) + shift])
        return StateColumns(parts)


@dataclass(frozen=True, eq=False)
class LatentProjections:
    """Precomputed projections of a streaming encoder: query logits and values per item and rating."""

    logits: Floats  # [I, Q]
    item_values: Floats  # [I, V]
    rating_values: Floats  # [R, 1 + V]
    decay: Doubles  # [Q] a day; all 0 without recency

    @property
    def values(self) -> int:
        """Size V of the value vector of each query."""
        return int(self.item_values.shape[1] + self.rating_values.shape[1])

    @property
    def record(self) -> np.dtype[np.void]:
        """Layout of the part ``latent``: the fields of :class:`palate.encoders.state.UserState` of one user."""
        queries = self.logits.shape[1]
        sums = (queries, 1 + self.values)
        return np.dtype(
            [
                ("exponent", "<i4", (queries,)),
                ("sums", "<f4", sums),
                ("rest", "<f4", sums),
                ("peak", "<f4", (queries,)),
                ("count", "<i8"),
                ("newest", "<f8"),
            ]
        )

    def sums(self, events: UserEvents) -> npt.NDArray[np.void]:
        """Compute the latent sums of B users, [B]."""
        made = np.zeros(len(events), dtype=self.record)
        made["exponent"], made["peak"], made["newest"] = NOTHING, -np.inf, -np.inf
        there = np.flatnonzero(np.diff(events.offsets))
        lengths = np.diff(events.offsets)[there]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        if not len(there):
            return made
        days = events.time / SECONDS_A_DAY
        powers = self._powers(events.item, days)
        highest = np.maximum.reduceat(powers, indptr[:-1], axis=0)  # [B', Q]
        exponent = np.ceil(highest).astype(np.float64)
        weights = np.exp2(powers - np.repeat(exponent, lengths, axis=0))  # [N, Q]
        ones = np.ones((len(self.rating_values), 1))
        of_rating = np.concatenate([ones, self.rating_values.astype(np.float64)], axis=1)  # [R, 2 + V]
        of_item = self.item_values.astype(np.float64)
        totals = np.empty((len(there), weights.shape[1], 1 + self.values))
        split = of_rating.shape[1]
        rating, item = events.rating.astype(np.int32), events.item
        for query in range(weights.shape[1]):
            data = np.ascontiguousarray(weights[:, query])
            # adds the entries of a row in order, without threads, independent of other rows
            by_rating = csr_matrix((data, rating, indptr), shape=(len(there), len(of_rating)))
            totals[:, query, :split] = by_rating @ of_rating
            by_item = csr_matrix((data, item, indptr), shape=(len(there), len(of_item)))
            totals[:, query, split:] = by_item @ of_item
        sums = totals.astype(np.float32)
        made["exponent"][there] = exponent.astype(np.int32)
        made["sums"][there] = sums
        made["rest"][there] = (totals - sums).astype(np.float32)
        with np.errstate(divide="ignore"):
            made["peak"][there] = exponent.astype(np.float32) + np.log2(np.maximum(sums[..., 0], 0))
        made["count"][there] = lengths
        made["newest"][there] = np.maximum.reduceat(days, indptr[:-1])
        return made

    def _powers(self, item: npt.NDArray[np.int32], days: Doubles) -> Floats | Doubles:
        """Compute the base-2 logits of the events, [N, Q]; float64 with recency, as in the encoder."""
        logits: Floats | Doubles = self.logits[item]
        if self.decay.any():
            logits = logits.astype(np.float64) + days[:, None] * self.decay
        powers: Floats | Doubles = np.clip(logits / np.asarray(math.log(2), logits.dtype), LOWEST, -LOWEST)
        return powers


@dataclass(frozen=True, eq=False)
class StateBuilder:
    """Everything needed to build a model's user states without loading the model."""

    item_ids: list[str]  # [I]
    rating_values: Floats  # [R]
    member: Ints  # [I + 1] into category and part
    category: npt.NDArray[np.int32]
    part: npt.NDArray[np.int16]
    category_ids: Ints  # [L]; empty for encoders without counts
    steps: Ints  # [R]; empty for encoders without counts
    latent: LatentProjections | None

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of a state."""
        counted = ("counts", "recent") if len(self.steps) else ()
        return (*counted, *(() if self.latent is None else ("latent",)))

    def build(self, events: UserEvents) -> StateColumns:
        """Build the states of B users."""
        done: list[StateColumns] = []
        start = 0
        while start < len(events):
            most = events.offsets[start] + _EVENTS_AT_ONCE
            stop = max(int(np.searchsorted(events.offsets, most, side="right")) - 1, start + 1)
            done.append(self._build(events.of_users(start, stop)))
            start = stop
        if not done:
            done.append(self._build(events))
        return joined_columns(done)

    def _build(self, events: UserEvents) -> StateColumns:
        made: dict[str, tuple[Ints, Bytes]] = {}
        if len(self.steps):
            made["counts"] = _rows_of(self._counts(events))
            made["recent"] = _recent(events)
        if self.latent is not None:
            made["latent"] = _rows_of(self.latent.sums(events))
        return StateColumns(made)

    def _counts(self, events: UserEvents) -> Ints:
        """Count, total and squares of each category, then length and whole, [B, 3L + 2] (little-endian)."""
        users, categories = len(events), len(self.category_ids)
        steps = self.steps[events.rating]
        membership = csr_matrix(
            (self.part.astype(np.int64), self.category, self.member), shape=(len(self.item_ids), categories)
        )
        made = np.zeros((users, 3 * categories + 2), dtype="<i8")
        for place, weights in enumerate((np.ones_like(steps), steps, steps * steps)):
            seen = csr_matrix((weights, events.item, events.offsets), shape=(users, len(self.item_ids)))
            made[:, place * categories : (place + 1) * categories] = (seen @ membership).toarray()
        made[:, -2] = np.diff(events.offsets)
        summed = np.concatenate([[0], np.cumsum(steps)])
        made[:, -1] = summed[events.offsets[1:]] - summed[events.offsets[:-1]]
        return made

    def changed_items(self, before: StateBuilder) -> npt.NDArray[np.bool_] | None:
        """Find the items whose categories or projections differ from an earlier builder's.

        Args:
            before: A builder whose item ids are a prefix of this one's.

        Returns:
            True for changed items, [I']; None if the rating scale or the categories changed, so that every state did.
        """
        common = len(before.item_ids)
        same = (
            self.parts == before.parts
            and np.array_equal(self.category_ids, before.category_ids)
            and np.array_equal(self.steps, before.steps)
            and np.array_equal(self.rating_values, before.rating_values)
        )
        if self.latent is not None and before.latent is not None:
            same &= self.latent.record == before.latent.record
            same = same and np.array_equal(self.latent.decay, before.latent.decay)
            same = same and np.array_equal(self.latent.rating_values, before.latent.rating_values)
        if not same:
            return None
        changed = np.zeros(common, dtype=np.bool_)
        mine, its = (
            csr_matrix(
                (one.part, one.category, one.member), shape=(len(one.item_ids), len(one.category_ids))
            )[:common]
            for one in (self, before)
        )
        changed |= np.diff((mine != its).tocsr().indptr) > 0
        if self.latent is not None and before.latent is not None:
            for name in ("logits", "item_values"):
                now, then = getattr(self.latent, name)[:common], getattr(before.latent, name)
                changed |= (now != then).any(axis=1)
        return changed

    def to_bytes(self) -> bytes:
        """Serialise to safetensors."""
        arrays = {
            name: np.ascontiguousarray(getattr(self, name))
            for name in ("rating_values", "member", "category", "part", "category_ids", "steps")
        }
        text = "\n".join(one.encode("unicode_escape").decode() for one in self.item_ids).encode()
        arrays["item_ids"] = np.frombuffer(text, dtype=np.uint8)
        if self.latent is not None:
            arrays |= {
                f"latent.{one.name}": np.ascontiguousarray(getattr(self.latent, one.name))
                for one in fields(self.latent)
            }
        return bytes(save(arrays))

    @classmethod
    def from_bytes(cls, data: bytes) -> StateBuilder:
        """Deserialise the result of :meth:`to_bytes`; raises SafetensorError, KeyError or ValueError if invalid."""
        arrays = load(data)
        text = arrays.pop("item_ids").tobytes().decode()
        ids = [one.encode().decode("unicode_escape") for one in text.split("\n")] if text else []
        parts = {name: arrays.pop(name) for name in list(arrays) if name.startswith("latent.")}
        latent = (
            LatentProjections(**{name.removeprefix("latent."): part for name, part in parts.items()})
            if parts
            else None
        )
        return cls(item_ids=ids, latent=latent, **arrays)


def _recent(events: UserEvents) -> tuple[Ints, Bytes]:
    """Pack the newest events of B users, preceded by the newest dropped one."""
    lengths = np.diff(events.offsets)
    kept = np.minimum(lengths, RECENT)
    ends = np.cumsum(kept + 1)
    made = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=RECENT_EVENT)
    owner = np.repeat(np.arange(len(kept)), kept)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(kept) - kept, kept)
    rows = events.offsets[1:][owner] - kept[owner] + place
    at = np.arange(len(owner)) + owner + 1  # each user has one record more, before the events
    heads = ends - kept - 1
    made["item"][heads] = -1
    dropped = lengths > kept
    last = (events.offsets[1:] - kept - 1)[dropped]
    for name in ("item", "rating", "time", "event"):
        column = getattr(events, name)
        made[name][at] = column[rows]
        if name in ("item", "time"):
            made[name][heads[dropped]] = column[last]
    offsets = np.concatenate([[0], ends]) * RECENT_EVENT.itemsize
    return offsets.astype(np.int64), made.view(np.uint8)


def _rows_of(rows: npt.NDArray[np.generic]) -> tuple[Ints, Bytes]:
    """Return records or rows [B, …] as rows of bytes of equal length."""
    content = np.ascontiguousarray(rows)
    each = content.dtype.itemsize * int(np.prod(content.shape[1:], dtype=np.int64))
    return np.arange(len(content) + 1, dtype=np.int64) * each, content.reshape(-1).view(np.uint8)


def joined_columns(blocks: Sequence[StateColumns]) -> StateColumns:
    """Join the states of several blocks of users."""
    return StateColumns({name: _joined([one.parts[name] for one in blocks]) for name in blocks[0].parts})


def _joined(parts: list[tuple[Ints, Bytes]]) -> tuple[Ints, Bytes]:
    sizes = [offsets[-1] for offsets, _ in parts]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    offsets = np.concatenate(
        [[0], *(one[1:] + start for (one, _), start in zip(parts, starts[:-1], strict=True))]
    )
    return offsets.astype(np.int64), np.concatenate([content for _, content in parts])
