"""State of a user's history in parts: exact counts by category, the newest events and, optionally, latent sums.

Each part has its own version and is serialised under its name. The latent sums over item vectors, from
:mod:`palate.encoders.state`, exist only for encoders trained on one catalogue, and are valid only for their weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor
from torch.nn import functional

from palate.encoders.counts import CategoryCounts
from palate.encoders.state import UserState
from palate.errors import DataError
from palate.system.records import tensor_metadata

if TYPE_CHECKING:
    from palate.encoders.batch import CategoryEvents
    from palate.items.categories import CategoryTable

Arrays: TypeAlias = dict[str, np.ndarray]
RECENT = 50
"""Number of newest events that are kept per user."""
VERSIONS = {"counts": 1, "recent": 2, "latent": 1}
"""Format version of each part, by its name."""
LATENT = "latent.state"
REBUILD = "rebuild it from the stored events"
_LONG_AGO = np.iinfo(np.int64).min


class LatentReader(NamedTuple):
    """The encoder weights that latent sums depend on."""

    identity: str
    """Identity of the weights."""
    like: UserState
    """A state with the expected sizes, on the device to load to."""


@dataclass(frozen=True, eq=False)
class RecentEvents:
    """The newest events of B users, at most :data:`RECENT` each, oldest first and right-padded.

    They are all events newer than ``since``, which precedes every event until more than :data:`RECENT` were added.
    Events are ordered by time and then by item, so that merging is independent of the order.
    """

    item: Tensor  # [B, N] int64 into the table
    rating: Tensor  # [B, N] int64 into the rating values
    time: Tensor  # [B, N] int64 seconds since 1970
    event: Tensor  # [B, N] int64 that identify the events (event_number), 0 without an id
    number: Tensor  # [B] int64 events
    since: Tensor  # [B, 2] int64 time and item of the newest event that was dropped

    def __getitem__(self, rows: slice | Tensor) -> RecentEvents:
        return RecentEvents(*(getattr(self, column.name)[rows] for column in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[RecentEvents]) -> RecentEvents:
        """Join the events of several batches of users into one."""
        width = max(one.item.shape[1] for one in parts)
        item, rating, time, event = (
            torch.cat([functional.pad(one, (0, width - one.shape[1])) for one in columns])
            for columns in zip(*(one._columns for one in parts), strict=True)
        )
        number, since = torch.cat([one.number for one in parts]), torch.cat([one.since for one in parts])
        return cls(item, rating, time, event, number, since)

    def each(self) -> list[RecentEvents]:
        """Return the events of each user without padding, as batches of one."""
        each = ((slice(row, row + 1), number) for row, number in enumerate(self.number.tolist()))
        return [
            RecentEvents(
                self.item[row, :number],
                self.rating[row, :number],
                self.time[row, :number],
                self.event[row, :number],
                self.number[row],
                self.since[row],
            )
            for row, number in each
        ]

    @classmethod
    def empty(cls, users: int, device: torch.device | str = "cpu") -> RecentEvents:
        """Create the events of users without a history."""
        nothing = torch.zeros(users, 0, dtype=torch.int64, device=device)
        since = torch.full((users, 2), _LONG_AGO, dtype=torch.int64, device=device)
        return cls(
            nothing, nothing, nothing, nothing, torch.zeros(users, dtype=torch.int64, device=device), since
        )

    @classmethod
    def of(cls, events: CategoryEvents) -> RecentEvents:
        """Keep the newest events of a batch [B, P]."""
        since = cls.empty(len(events.mask), events.mask.device).since
        return _newest((events.index, events.rating, events.time, events.event), events.mask, since)

    @property
    def mask(self) -> Tensor:
        """True at events, False at padding, [B, N]."""
        return torch.arange(self.item.shape[1], device=self.item.device) < self.number[:, None]

    def merge(self, other: RecentEvents) -> RecentEvents:
        """Add the events of another part of the histories."""
        columns = tuple(torch.cat(pair, dim=1) for pair in zip(self._columns, other._columns, strict=True))
        there = torch.cat([self.mask, other.mask], dim=1)
        return _newest(columns, there, _later(self.since, other.since))

    def remove(self, other: RecentEvents) -> RecentEvents:
        """Remove the events of another part of the histories, matched by item, time and, if given, id."""
        same = (self.item[:, :, None] == other.item[:, None]) & (self.time[:, :, None] == other.time[:, None])
        mine, its = self.event[:, :, None], other.event[:, None]
        same &= (mine == its) | (mine == 0) | (its == 0)
        taken = (same & other.mask[:, None]).any(dim=2)
        return _newest(self._columns, self.mask & ~taken, _later(self.since, other.since))

    @property
    def _columns(self) -> tuple[Tensor, ...]:
        return self.item, self.rating, self.time, self.event


@dataclass(frozen=True, eq=False)
class HistoryParts:
    """State of B users: counts by category, newest events and, for some encoders, latent sums."""

    counts: CategoryCounts
    recent: RecentEvents
    latent: UserState | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice | Tensor) -> HistoryParts:
        latent = None if self.latent is None else self.latent[rows]
        return HistoryParts(self.counts[rows], self.recent[rows], latent)

    @classmethod
    def joined(cls, states: Sequence[HistoryParts]) -> HistoryParts:
        """Join states into one batch."""
        latent = [one.latent for one in states if one.latent is not None]
        return cls(
            CategoryCounts.joined([one.counts for one in states]),
            RecentEvents.joined([one.recent for one in states]),
            UserState.joined(latent) if latent else None,
        )

    def each(self) -> list[HistoryParts]:
        """Return the state of each user, as batches of one."""
        return [replace(self[row : row + 1], recent=recent) for row, recent in enumerate(self.recent.each())]

    @property
    def sums(self) -> UserState:
        """The latent sums; only for states that have them."""
        assert self.latent is not None
        return self.latent

    @property
    def count(self) -> Tensor:
        """Number of events that were read, [B]."""
        return self.counts.length

    @classmethod
    def empty(cls, users: int, categories: int, device: torch.device | str = "cpu") -> HistoryParts:
        """Create the state of users without a history."""
        return cls(CategoryCounts.empty(users, categories, device), RecentEvents.empty(users, device))

    @classmethod
    def of(cls, events: CategoryEvents, steps: Tensor) -> HistoryParts:
        """Create the state of a batch of events; ``steps`` [R] are the rating values in steps of the scale."""
        counts = CategoryCounts.of_events(events.membership, events.item, steps[events.rating], events.mask)
        return cls(counts, RecentEvents.of(events))

    def merge(self, other: HistoryParts) -> HistoryParts:
        """Combine the states of two parts of the histories; exact and independent of the order."""
        latent = None if self.latent is None or other.latent is None else self.latent.merge(other.latent)
        return HistoryParts(self.counts.merge(other.counts), self.recent.merge(other.recent), latent)

    def remove(self, other: HistoryParts, latent: UserState | None = None) -> HistoryParts:
        """Remove the events of another state.

        Args:
            other: The state of these events.
            latent: The remaining latent sums, which only their encoder can compute.

        Returns:
            The state without the events.

        Raises:
            MismatchError: This state does not contain the events.
        """
        return HistoryParts(self.counts.remove(other.counts), self.recent.remove(other.recent), latent)

    def to_bytes(self, table: CategoryTable, reader: str = "") -> bytes:
        """Serialise to safetensors.

        Args:
            table: The items; the ids of their categories and a digest are written, to be checked on loading.
            reader: Identity of the weights that the latent sums were computed with.

        Returns:
            The bytes.
        """
        counts = {column.name: _narrow(getattr(self.counts, column.name)) for column in fields(self.counts)}
        recent: Arrays = {
            "item": self.recent.item.cpu().numpy().astype(np.int32),
            "rating": self.recent.rating.cpu().numpy().astype(np.uint8),
            "time": _narrow(self.recent.time),
            "number": _narrow(self.recent.number),
            "since": self.recent.since.cpu().numpy(),
        }
        if bool(self.recent.event.any()):
            recent["event"] = self.recent.event.cpu().numpy()
        parts: dict[str, Arrays] = {"counts": {**counts, "categories": table.category_ids}, "recent": recent}
        arrays = {
            f"{part}.{name}": array for part, columns in parts.items() for name, array in columns.items()
        }
        if self.latent is not None:
            arrays[LATENT] = np.frombuffer(self.latent.to_bytes(reader), dtype=np.uint8)
        versions = _versions(self.latent is not None)
        made = {"parts": versions, "items": len(table), "digest": table.digest()}
        # one entry, because the order of several differs from call to call
        return bytes(save(arrays, metadata={"state": json.dumps(made, sort_keys=True)}))

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        table: CategoryTable,
        device: torch.device | str = "cpu",
        path: Path | None = None,
        latent: LatentReader | None = None,
    ) -> HistoryParts:
        """Deserialise the result of :meth:`to_bytes`.

        Args:
            data: The bytes.
            table: An item table that starts with the items of the table it was written with, and has its categories.
            device: Device of the state.
            path: File to name in errors.
            latent: Weights that the latent sums must belong to; None if the state must have no latent sums.

        Returns:
            The state.

        Raises:
            DataError: The bytes are damaged, of another version, of items with other categories or ratings, or with
                latent sums of other weights.
        """
        try:
            arrays = load(data)
            parts = _parsed(arrays, tensor_metadata(data), table, latent is not None).to(device)
            if latent is None:
                return parts
            return replace(parts, latent=UserState.from_bytes(arrays[LATENT].tobytes(), *latent, path))
        except (SafetensorError, ValueError, TypeError, KeyError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"not a user state of these items ({reason}); {REBUILD}", path) from error

    def to(self, device: torch.device | str) -> HistoryParts:
        """Move the state to a device."""
        recent = (getattr(self.recent, column.name).to(device) for column in fields(self.recent))
        return HistoryParts(self.counts.to(device), RecentEvents(*recent))


def _versions(latent: bool) -> dict[str, int]:
    """Return the versions of the parts of a state with or without latent sums."""
    return {part: version for part, version in VERSIONS.items() if latent or part != "latent"}


def _parsed(arrays: Arrays, metadata: Mapping[str, str], table: CategoryTable, latent: bool) -> HistoryParts:
    """Parse a state without its latent sums; raises ValueError or a similar error if it is invalid."""
    made, expected = json.loads(metadata["state"]), _versions(latent)
    if made["parts"] != expected:
        raise ValueError(f"the parts are {made['parts']}, expected {expected}")
    items = int(made["items"])
    if items > len(table) or made["digest"] != table.digest(items):
        raise ValueError("it was written for other items, or items with other categories")
    counts, recent = _part(arrays, "counts"), _part(arrays, "recent")
    counts = _by_category(counts, counts.pop("categories"), table)
    columns = {name: torch.from_numpy(array.astype(np.int64)) for name, array in counts.items()}
    recent.setdefault("event", np.zeros_like(recent["item"]))
    newest = {name: torch.from_numpy(array.astype(np.int64)) for name, array in recent.items()}
    made_of = HistoryParts(CategoryCounts(**columns), RecentEvents(**newest))
    _check_shapes(made_of, items, len(table.rating_values))
    return made_of


def _part(arrays: Mapping[str, Any], part: str) -> Arrays:
    start = f"{part}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _by_category(counts: Arrays, ids: np.ndarray, table: CategoryTable) -> Arrays:
    """Reorder the columns of the state's categories [L'] to the table's order [L]."""
    place = {one: number for number, one in enumerate(table.category_ids.tolist())}
    if lost := [one for one in ids.tolist() if one not in place]:
        raise ValueError(f"the items lack {len(lost)} of its categories")
    at = [place[one] for one in ids.tolist()]
    moved = dict(counts)
    for name in ("count", "total", "squares"):
        moved[name] = np.zeros((len(counts[name]), len(place)), dtype=np.int64)
        moved[name][:, at] = counts[name]
    return moved


def _check_shapes(state: HistoryParts, items: int, values: int) -> None:
    users, recent = len(state), state.recent
    shape = (users, recent.item.shape[1])
    whole = (*(getattr(recent, name).shape == shape for name in ("item", "rating", "time", "event")),)
    rows = {len(state.counts.whole), len(state.counts.count), len(recent.number), len(recent.since), users}
    if not all(whole) or rows != {users} or recent.since.shape[1:] != (2,) or shape[1] > RECENT:
        raise ValueError("the columns are inconsistent")
    for name, most in (("item", items), ("rating", values), ("number", shape[1] + 1)):
        column = getattr(recent, name)
        if column.numel() and not 0 <= int(column.min()) <= int(column.max()) < most:
            raise ValueError(f"the column {name} is out of range")


def _newest(columns: tuple[Tensor, ...], there: Tensor, since: Tensor) -> RecentEvents:
    """Keep the newest of the events that are ``there`` [B, N'] and newer than ``since`` [B, 2].

    The columns [B, N'] are those of :class:`RecentEvents`.
    """
    item, _, time, _ = columns
    when, which = since[:, :1], since[:, 1:]
    there = there & ((time > when) | ((time == when) & (item > which)))
    # by time, then by item; padding comes first
    order = item.argsort(dim=1, stable=True)
    order = order.gather(1, time.gather(1, order).argsort(dim=1, stable=True))
    order = order.gather(1, there.gather(1, order).to(torch.uint8).argsort(dim=1, stable=True))
    number = there.sum(dim=1)
    width = min(int(number.max()) if len(number) else 0, RECENT)
    dropped = item.shape[1] - width - 1
    if dropped >= 0:
        last = order[:, dropped : dropped + 1]
        lost = there.gather(1, last)
        newest = torch.cat([time.gather(1, last), item.gather(1, last)], dim=1)
        since = torch.where(lost, newest, since)
    kept = order[:, item.shape[1] - width :]
    number = number.clamp(max=width)
    # shift to the left for users with fewer events
    shift = (torch.arange(width, device=item.device) + (width - number)[:, None]).clamp(max=max(width - 1, 0))
    kept = kept.gather(1, shift)
    stands = torch.arange(width, device=item.device) < number[:, None]
    item, rating, time, event = (column.gather(1, kept) * stands for column in columns)
    return RecentEvents(item, rating, time, event, number, since)


def _later(first: Tensor, second: Tensor) -> Tensor:
    """Return the later of two points in time [B, 2]: time, then item."""
    after = (first[:, 0] > second[:, 0]) | ((first[:, 0] == second[:, 0]) & (first[:, 1] >= second[:, 1]))
    return torch.where(after[:, None], first, second)


def _narrow(column: Tensor) -> np.ndarray:
    """Convert to the narrowest type that holds the values."""
    array = column.cpu().numpy()
    lowest, highest = int(array.min(initial=0)), int(array.max(initial=0))
    kinds = (np.uint8, np.uint16, np.uint32) if lowest >= 0 else (np.int32,)
    return array.astype(next((kind for kind in kinds if highest <= np.iinfo(kind).max), np.int64))
