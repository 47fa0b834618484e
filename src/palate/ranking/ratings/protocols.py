"""Protocols of rating: what is learned from, what is shown of a user, and what is predicted. The leakage boundary.

A predictor gets a dataset that holds the training interactions alone, and histories. Ratings to be predicted stay with
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
"""Which ratings are predicted: those of users or items that nothing is learned of, or those of the newest period."""
RATING_PROTOCOLS: tuple[RatingProtocol, ...] = get_args(RatingProtocol)
MOST_HELD_OUT = 50
"""Ratings that are held out of a new user at most; half of them where there are fewer than twice as many."""
_CELLS, _MOST_USERS = 1 << 20, 1024
"""Interactions and users of a batch."""


@dataclass(frozen=True, eq=False)
class RatingBatch:
    """B histories, and ratings to be predicted from each; a user may have several histories."""

    user_index: Ints  # [B] into the dataset's users
    windows: Windows
    item_index: Indices  # [B, T]; -1 where there are fewer
    rating_index: RatingIndices  # [B, T]
    time: Ints  # [B, T]

    @property
    def wanted(self) -> Bools:
        """Where there is a rating to predict, [B, T]."""
        return self.item_index >= 0


@dataclass(frozen=True, eq=False)
class RatingCases:
    """Rows of a dataset's interactions: what is shown of a user, and what is predicted from that; B of both."""

    events: Interactions
    user_index: Ints  # [B] into the dataset's users
    shown: list[Ints]  # ascending rows of each
    held_out: list[Ints]

    def __len__(self) -> int:
        return len(self.user_index)

    def batches(self) -> Iterator[RatingBatch]:
        """Yield the cases in parts that fit in memory, those with short histories first."""
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
    """A dataset by a protocol: cases by the name of what is shown."""

    training: Dataset
    """Items and users of the dataset with the training interactions alone; all users are training users."""
    dev: dict[str, RatingCases]
    test: dict[str, RatingCases]
    final: Dataset
    """What is learned from by the settings that dev has chosen: training and dev interactions."""


def make_rating_split(
    dataset: Dataset,
    protocol: RatingProtocol,
    visible: tuple[int, ...] = (10, 20, 50, 100),
    kind: WindowKind = "random",
    periods: tuple[int, int] | None = None,
    seed: int = 0,
) -> RatingSplit:
    """Divide a dataset into what is learned from and what is predicted.

    - ``new-users``: of each dev and test user 50 ratings, or half of them if that is less, are held out at random.
      They are predicted from N of the others, random or the newest ones, or all where there are fewer. The held-out
      ratings are the same for each N.
    - ``future``: the ratings of the newest tenth of all time are predicted, and those of the tenth before it for dev,
      or those since given times. They are predicted from what the user did before the period, and again, each from
      what the user did before its time.
    - ``cold-items``: the ratings of a tenth of the items are predicted, and those of another tenth for dev, from what
      the same users rated of the others.

    Args:
        dataset: The dataset.
        protocol: The protocol.
        visible: Numbers of ratings that are shown of a new user.
        kind: Which ones: random or the newest (``recent``).
        periods: Times in seconds at which the dev and the test period begin; tenths if None.
        seed: Seed of the random choices.

    Returns:
        The training data and the cases.

    Raises:
        DataError: The data has no ratings, or no times where they are needed, or there is nothing to predict.
    """
    if protocol not in RATING_PROTOCOLS:
        raise DataError(f"there is no protocol {protocol!r}; expected one of {', '.join(RATING_PROTOCOLS)}")
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
                f"{dataset.info.name} has no {name} ratings to predict by the protocol {protocol}, which takes "
                f"{_NEEDS[protocol]}; take another protocol, or more data",
                dataset.path,
            )
    return split


_NEEDS: dict[RatingProtocol, str] = {
    "new-users": "dev and test users with at least 2 ratings",
    "future": "ratings before, in and after the dev period",
    "cold-items": "at least 20 items, and users who rated drawn and other ones",
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
    """Shuffle the rows of each user who has at least two, by the user's index."""
    events = dataset.interactions
    found = {}
    for user in users.tolist():
        if events.lengths[user] >= 2:  # an order of each user's own: it does not depend on who else is there
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
    """Predict the ratings of a period from what was before it, and from what was before the time of each."""
    events = dataset.interactions
    users, shown, held_out = [], [], []
    moving = []  # of each user, and for each time
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
    """Make a table of rows [B, most], 0 at padding, and where it has some."""
    length = np.array([len(one) for one in rows], dtype=np.int64)
    mask = np.arange(max(int(length.max(initial=0)), 1)) < length[:, None]
    table = np.zeros(mask.shape, dtype=np.int64)
    table[mask] = np.concatenate(rows)
    return table, mask
