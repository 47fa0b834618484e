"""Protocols of rating prediction: training data, shown histories and held-out ratings. The leakage boundary.

A predictor receives a dataset with the training interactions alone, and histories. The ratings to predict stay with
the evaluator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from palate.data.protocols import draw_cold_items, period_starts, training_view
from palate.errors import DataError
from palate.schema import (
    SPLITS,
    Bools,
    Indices,
    Interactions,
    Ints,
    RatingIndices,
    Split,
    WindowKind,
    Windows,
)

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

RatingProtocol: TypeAlias = Literal["new-users", "future", "cold-items"]
"""Which ratings are predicted: of new users, of the newest period, or of cold items."""
RATING_PROTOCOLS: tuple[RatingProtocol, ...] = get_args(RatingProtocol)
MOST_HELD_OUT = 50
"""Maximum number of held-out ratings of a new user, and at most half of them."""
_CELLS, _MOST_USERS = 1 << 20, 1024
"""Maximum number of interactions and of users per batch."""


@dataclass(frozen=True, eq=False)
class RatingBatch:
    """B histories, and ratings to predict from each; a user may have several histories."""

    user_index: Ints  # [B] into the dataset's users
    windows: Windows
    item_index: Indices  # [B, T]; -1 is padding
    rating_index: RatingIndices  # [B, T]
    time: Ints  # [B, T]

    @property
    def wanted(self) -> Bools:
        """Mask of the ratings to predict, [B, T]."""
        return self.item_index >= 0


@dataclass(frozen=True, eq=False)
class RatingCases:
    """B cases, each with the rows of a dataset's interactions that are shown and those to predict from them."""

    events: Interactions
    user_index: Ints  # [B] into the dataset's users
    shown: list[Ints]  # ascending rows of each
    held_out: list[Ints]

    def __len__(self) -> int:
        return len(self.user_index)

    def batches(self) -> Iterator[RatingBatch]:
        """Yield batches that fit in memory, cases with short histories first."""
        order = np.argsort([len(one) for one in self.shown], kind="stable")
        while len(order):
            width = len(self.shown[order[min(len(order), _MOST_USERS) - 1]])
            size = int(np.clip(_CELLS // max(width, 1), 1, _MOST_USERS))
            yield self._batch(order[:size])
            order = order[size:]

    def _batch(self, rows: Ints) -> RatingBatch:
        shown, mask = _padded([self.shown[row] for row in rows])
        wanted, there = _padded([self.held_out[row] for row in rows])
        events = self.events
        windows = Windows(
            np.where(mask, events.item_index[shown], 0).astype(np.int32),
            np.where(mask, events.rating_index[shown], 0).astype(np.uint8),
            np.where(mask, events.timestamp[shown], 0),
            mask.sum(axis=1),
        )
        items = np.where(there, events.item_index[wanted], -1).astype(np.int32)
        return RatingBatch(
            self.user_index[rows], windows, items, events.rating_index[wanted], events.timestamp[wanted]
        )


@dataclass(frozen=True, eq=False)
class RatingSplit:
    """A dataset split by a protocol; cases are keyed by the name of what is shown."""

    training: Dataset
    """All items and users with the training interactions alone; all users are training users."""
    dev: dict[str, RatingCases]
    test: dict[str, RatingCases]
    final: Dataset
    """Training and dev interactions, which the chosen settings are fitted to for the test."""


def make_rating_split(
    dataset: Dataset,
    protocol: RatingProtocol,
    visible: tuple[int, ...] = (10, 20, 50, 100),
    kind: WindowKind = "random",
    periods: tuple[int, int] | None = None,
    seed: int = 0,
) -> RatingSplit:
    """Split a dataset into training data and ratings to predict.

    - ``new-users``: a random 50 ratings of each dev and test user, or half if there are fewer, are predicted from N of
      the others, random or newest, or all if there are fewer. The held-out ratings are the same for each N.
    - ``future``: the ratings of the newest tenth of all time are predicted, and those of the tenth before it for dev,
      or of the given periods: once from the user's ratings before the period, and once each from those before it.
    - ``cold-items``: the ratings of a random tenth of the items are predicted, and those of another tenth for dev,
      from the same users' ratings of the other items.

    Args:
        dataset: Dataset to split.
        protocol: Which ratings are predicted.
        visible: Numbers N of ratings shown of a new user.
        kind: Which ratings are shown: random or the newest (``recent``).
        periods: Start of the dev and of the test period, in seconds; tenths if None.
        seed: Seed of the random choices.

    Returns:
        The training data and the cases.

    Raises:
        DataError: The data has no ratings, or no times where they are needed, or there is nothing to predict.
    """
    if protocol not in RATING_PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; expected one of {', '.join(RATING_PROTOCOLS)}")
    if dataset.info.feedback != "ratings":
        raise DataError(
            f"{dataset.info.name} has no ratings to predict; rank its items (without --task ratings), or prepare it "
            "with a column of ratings",
            dataset.path,
        )
    if protocol == "new-users":
        split = _new_users(dataset, visible, kind, seed)
    else:
        split = _future(dataset, periods) if protocol == "future" else _cold_items(dataset, seed)
    for name, parts in (("dev", split.dev), ("test", split.test)):
        if not all(len(cases) for cases in parts.values()):
            raise DataError(
                f"{dataset.info.name} has no {name} ratings to predict by the protocol {protocol}, which needs "
                f"{_NEEDS[protocol]}; use another protocol, or more data",
                dataset.path,
            )
    return split


_NEEDS: dict[RatingProtocol, str] = {
    "new-users": "dev and test users with at least 2 ratings",
    "future": "ratings before, in and after the dev period",
    "cold-items": "at least 20 items, and users who rated both cold and other items",
}


def _new_users(dataset: Dataset, visible: tuple[int, ...], kind: WindowKind, seed: int) -> RatingSplit:
    def cases(split: Split) -> dict[str, RatingCases]:
        order = _shuffled(dataset, dataset.users(split), seed)
        return {f"{number:,} visible": _shown(dataset, order, number, kind) for number in visible}

    learned = dataset.split_of_user[dataset.interactions.owner]
    training, dev = (learned == SPLITS.index(name) for name in ("train", "dev"))
    return RatingSplit(
        training_view(dataset, training), cases("dev"), cases("test"), training_view(dataset, training | dev)
    )


def _shuffled(dataset: Dataset, users: Ints, seed: int) -> dict[int, Ints]:
    """Shuffle each user's rows, for users with at least two; by user index."""
    events = dataset.interactions
    found = {}
    for user in users.tolist():
        if events.lengths[user] >= 2:  # seeded by user, so that the order does not depend on the other users
            rng = np.random.default_rng([seed, user])
            found[user] = rng.permutation(np.arange(events.offsets[user], events.offsets[user + 1]))
    return found


def _shown(dataset: Dataset, order: dict[int, Ints], number: int, kind: WindowKind) -> RatingCases:
    held_out, shown = [], []
    for rows in order.values():
        most = min(MOST_HELD_OUT, len(rows) // 2)
        others = rows[most:]
        shown.append(
            np.sort(others[:number]) if kind == "random" else np.sort(others)[max(len(others) - number, 0) :]
        )
        held_out.append(rows[:most])
    return RatingCases(dataset.interactions, np.array(list(order), dtype=np.int64), shown, held_out)


def _future(dataset: Dataset, periods: tuple[int, int] | None) -> RatingSplit:
    first, second = period_starts(dataset) if periods is None else periods
    times = dataset.interactions.timestamp
    last = int(times.max(initial=0)) + 1
    return RatingSplit(
        training_view(dataset, times < first),
        _between(dataset, first, second),
        _between(dataset, second, last),
        training_view(dataset, times < second),
    )


def _between(dataset: Dataset, start: int, stop: int) -> dict[str, RatingCases]:
    """Predict a period's ratings from what came before the period, and from what came before each of them."""
    events = dataset.interactions
    users, shown, held_out = [], [], []
    moving = []  # one case per user and time
    for user in range(len(events.lengths)):
        rows = np.arange(events.offsets[user], events.offsets[user + 1])
        times = events.timestamp[rows]  # ascending
        begin, end = np.searchsorted(times, [start, stop])
        if begin == end:
            continue
        users.append(user)
        shown.append(rows[:begin])
        held_out.append(rows[begin:end])
        firsts = np.flatnonzero(np.diff(times[begin:end], prepend=start - 1)) + begin
        moving += [
            (user, rows[:at], rows[at:until]) for at, until in zip(firsts, [*firsts[1:], end], strict=True)
        ]
    still = RatingCases(events, np.array(users, dtype=np.int64), shown, held_out)
    owners, before, own = ([one[column] for one in moving] for column in range(3))
    each = RatingCases(events, np.array(owners, dtype=np.int64), before, own)  # type: ignore[arg-type]
    return {"all before the period": still, "all before each rating": each}


def _cold_items(dataset: Dataset, seed: int) -> RatingSplit:
    events = dataset.interactions
    drawn = draw_cold_items(dataset, seed)
    dev, test = (np.isin(events.item_index, items) for items in drawn)
    warm = ~(dev | test)

    def cases(cold: Bools) -> dict[str, RatingCases]:
        users, shown, held_out = [], [], []
        for user in range(len(events.lengths)):
            rows = np.arange(events.offsets[user], events.offsets[user + 1])
            if cold[rows].any() and warm[rows].any():
                users.append(user)
                shown.append(rows[warm[rows]])
                held_out.append(rows[cold[rows]])
        return {"all other items": RatingCases(events, np.array(users, dtype=np.int64), shown, held_out)}

    return RatingSplit(
        training_view(dataset, warm, drawn), cases(dev), cases(test), training_view(dataset, ~test, drawn)
    )


def _padded(rows: list[Ints]) -> tuple[Ints, Bools]:
    """Pad rows to a table [B, most] with 0, and return its mask."""
    length = np.array([len(one) for one in rows], dtype=np.int64)
    mask = np.arange(max(int(length.max(initial=0)), 1)) < length[:, None]
    table = np.zeros(mask.shape, dtype=np.int64)
    table[mask] = np.concatenate(rows)
    return table, mask
