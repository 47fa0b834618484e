"""The table of the latest event per user and item, which states are built from and incremental folds start from.

An event is a row of user, item, rating, time and event id; a deletion is a row, too. The table is independent of the
order of the rows, and of duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from palate.errors import DataError
from palate.fold.state_builder import UserEvents
from palate.schema import Bools, Ints

Rows: TypeAlias = pa.Table
LOG = pa.schema(
    [
        ("user", pa.large_string()),
        ("item", pa.int32()),
        ("rating", pa.uint8()),
        ("time", pa.int64()),  # microseconds since 1970
        ("event", pa.int64()),  # integer of the event id, 0 without an id
        ("deleted", pa.bool_()),
    ]
)
"""Schema of a log's rows, and of the table of latest events."""
MICROSECONDS = 1_000_000


@dataclass(frozen=True, eq=False)
class LastEvents:
    """Events of U users, sorted by user, item and time; one per user and item unless repeats are kept."""

    users: pa.LargeStringArray  # [U] ascending
    user: Ints  # [N] into users
    item: npt.NDArray[np.int32]  # [N]
    rating: npt.NDArray[np.uint8]  # [N]
    time: Ints  # [N]
    event: Ints  # [N]
    deleted: Bools  # [N]

    @classmethod
    def of(cls, rows: Rows, repeats: bool) -> LastEvents:
        """Drop the superseded rows of a log.

        Of a user's rows for an item, the latest is kept; of rows with equal times, a deletion, then the higher rating,
        then the higher event number. With ``repeats``, all distinct rows that are not older than the last deletion are
        kept.
        """
        encoded = pc.dictionary_encode(rows["user"].combine_chunks())
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        names = encoded.dictionary
        order = pc.sort_indices(names)
        rank = np.empty(len(names), dtype=np.int64)
        rank[order.to_numpy()] = np.arange(len(names))
        columns = {name: rows[name].to_numpy() for name in LOG.names[1:]}
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        every = cls(names.take(order), rank[codes] if len(codes) else codes.astype(np.int64), **columns)
        return every._sorted()._kept(repeats)

    def __len__(self) -> int:
        return len(self.user)

    def table(self) -> Rows:
        """Return the rows with user ids, as :data:`LOG`."""
        users = self.users.take(pa.array(self.user))
        return pa.table([users, *(pa.array(getattr(self, name)) for name in LOG.names[1:])], schema=LOG)

    def where(self, kept: Bools | Ints) -> LastEvents:
        """Select rows."""
        columns = {name: getattr(self, name)[kept] for name in ("user", *LOG.names[1:])}
        return replace(self, **columns)

    def live(self) -> LastEvents:
        """Select the rows that states are built from: no deletions, and only the latest row of each event id.

        Raises:
            DataError: Two events of a user have the same id and time.
        """
        found = self.where(~self.deleted)
        named = np.flatnonzero(found.event)
        if not len(named):
            return found
        user, event, time = found.user[named], found.event[named], found.time[named]
        order = np.lexsort((time, event, user))
        same = (user[order][1:] == user[order][:-1]) & (event[order][1:] == event[order][:-1])
        if not same.any():
            return found
        earlier, later = named[order[:-1][same]], named[order[1:][same]]
        if len(tied := np.flatnonzero(found.time[earlier] == found.time[later])):
            row = int(earlier[tied[0]])
            raise DataError(
                f"user {found.users[int(found.user[row])].as_py()!r} has two events with the same id and time "
                f"({found.time[row] / MICROSECONDS:.6f} seconds since 1970); give a corrected event a later time, or "
                "delete the earlier one"
            )
        kept = np.ones(len(found), dtype=np.bool_)
        kept[earlier] = False
        return found.where(kept)

    def events(self, users: Ints) -> UserEvents:
        """Return the events of users [B], which are ascending, in the order that states are built in."""
        place = np.full(len(self.users), -1, dtype=np.int64)
        place[users] = np.arange(len(users))
        owner = place[self.user]
        rows = np.flatnonzero(owner >= 0)
        owner, seconds = owner[rows], self.time[rows] // MICROSECONDS
        first = int(seconds.min(initial=0))
        span = int(seconds.max(initial=0)) - first + 1
        if (
            len(users) * span < 2**62
        ):  # one sort key for user and time: the rows are already in the order of items
            order = np.argsort(owner * span + (seconds - first), kind="stable")
        else:
            order = np.lexsort((seconds, owner))
        rows, owner, seconds = rows[order], owner[order], seconds[order]
        again = (
            (owner[1:] == owner[:-1])
            & (seconds[1:] == seconds[:-1])
            & (self.item[rows][1:] == self.item[rows][:-1])
        )
        if again.any():
            exact = np.lexsort((self.rating[rows], self.event[rows], self.item[rows], seconds, owner))
            rows, owner, seconds = rows[exact], owner[exact], seconds[exact]
        offsets = np.searchsorted(owner, np.arange(len(users) + 1))
        return UserEvents(offsets, self.item[rows], self.rating[rows], seconds, self.event[rows])

    def _sorted(self) -> LastEvents:
        """Sort by user, item, time, deletion, rating and event."""
        pair = self.user << 32 | self.item
        order = np.lexsort((self.time, pair))
        pair, time = pair[order], self.time[order]
        if ((pair[1:] == pair[:-1]) & (time[1:] == time[:-1])).any():
            order = np.lexsort(
                (self.event, self.rating, self.deleted, self.time, self.user << 32 | self.item)
            )
        return self.where(order)

    def _kept(self, repeats: bool) -> LastEvents:
        """Select the rows that are not superseded; requires sorted rows."""
        if not len(self):
            return self
        pair = self.user << 32 | self.item
        last = np.append(pair[1:] != pair[:-1], True)
        if not repeats:
            return self.where(last)
        same = np.zeros(len(self), dtype=np.bool_)
        columns = (pair, self.time, self.deleted, self.rating, self.event)
        same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
        group = np.cumsum(np.concatenate([[0], last[:-1]]))
        ended = np.full(int(group[-1]) + 1, np.iinfo(np.int64).min)
        np.maximum.at(ended, group[self.deleted], self.time[self.deleted])
        past = np.where(self.deleted, self.time < ended[group], self.time <= ended[group])
        return self.where(~same & ~past)
