"""Ranking protocols, which split interactions into training, dev and test: the leakage boundary of rankings.

A ranker gets a dataset with only the training interactions, and histories. Only the evaluator reads the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from palate.data.storage import fingerprint
from palate.data.windows import draw_windows
from palate.errors import DataError
from palate.schema import (
    RANKING_PROTOCOLS,
    SPLITS,
    Bools,
    Indices,
    Interactions,
    Ints,
    RankingProtocol,
    Windows,
)

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

HELD_OUT_SHARE = 0.1
"""Share of the interactions in the test period of ``future``, and of the items that are cold; dev has the same."""


@dataclass(frozen=True, eq=False)
class RankingCases:
    """Ranking examples: histories of B users, and their target items, which only the evaluator reads."""

    user_index: Ints  # [B] into the dataset's users
    windows: Windows  # full histories
    targets: Indices  # [B, T] distinct items, -1 where a user has fewer; at least one each
    target_time: Ints  # [B] timestamp of the first target

    def __len__(self) -> int:
        return len(self.user_index)

    def __getitem__(self, rows: slice | Ints | Bools) -> RankingCases:
        return RankingCases(
            self.user_index[rows], self.windows[rows], self.targets[rows], self.target_time[rows]
        )


@dataclass(frozen=True, eq=False)
class RankingSplit:
    """A dataset split by a ranking protocol."""

    training: Dataset
    """The dataset with only the training interactions; all users are training users."""
    dev: RankingCases
    test: RankingCases
    left_out: dict[str, int]
    """Numbers of test users without a case, by reason."""
    cold: Indices | None = None
    """Test target items without training interactions; None if the protocol has no cold items."""


def make_split(
    dataset: Dataset, protocol: RankingProtocol, keep_seen: bool = False, seed: int = 0
) -> RankingSplit:
    """Split a dataset into training data and dev and test cases.

    With implicit feedback, only interactions that chose an item are targets; others, such as skips, stay in histories.

    - ``leave-last-out``: for each user with at least 3 interactions, the last is the test target; the one before is
      the dev target and, at test time, part of the history; the earlier ones are training.
    - ``future``: sorted by time, the newest tenth of all interactions are test targets, the tenth before them dev
      targets, and all earlier ones training. A user's history ends where the period begins.
    - ``new-users``: interactions of training users are training; for each dev and test user, the last interaction is
      the target, and the earlier ones are the history, which is not trained on.
    - ``cold-items``: a tenth of the items are cold in test, another tenth in dev; interactions with either are not
      training, as if the items were new. Each user's last interaction with a cold item is the target, and the earlier
      ones with other items are the history.

    Args:
        dataset: The dataset.
        protocol: The protocol.
        keep_seen: Keep targets that occur in the history (repeat purchases). By default they are dropped, as seen
            items are from rankings.
        seed: Seed of the draw of cold items.

    Returns:
        The training data and the cases.

    Raises:
        DataError: The protocol needs times that the dataset does not have, or no user has a case.
    """
    if protocol not in RANKING_PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; expected one of {', '.join(RANKING_PROTOCOLS)}")
    cold = draw_cold_items(dataset, seed) if protocol == "cold-items" else None
    training, *held_out = _PARTS[protocol](dataset) if cold is None else _cold_items(dataset, *cold)
    found = [_cases(dataset, one, keep_seen) for one in held_out]
    for name, (cases, _) in zip(("dev", "test"), found, strict=True):
        if not len(cases):
            raise DataError(
                f"no user of {dataset.info.name} has a {name} case under the protocol {protocol}, which needs users "
                f"with {_NEEDS[protocol]}; choose another protocol, or give more data",
                dataset.path,
            )
    (dev_cases, _), (test_cases, left_out) = found
    return RankingSplit(
        training_view(dataset, training, cold),
        dev_cases,
        test_cases,
        left_out,
        None if cold is None else cold[1],
    )


def event_parts(
    dataset: Dataset, protocol: Literal["leave-last-out", "future", "new-users"]
) -> tuple[Bools, Bools, Bools, Bools]:
    """Return masks of the training, dev, test and known interactions under a protocol of :func:`make_split`.

    Returns:
        Four masks [N]: training interactions, dev targets, test targets, and known ones: training interactions and
        histories of test targets, without any target.
    """
    training, dev, test = _PARTS[protocol](dataset)
    known = (training | test.known) & ~dev.wanted & ~test.wanted
    return training, dev.wanted, test.wanted, known


_NEEDS: dict[RankingProtocol, str] = {
    "leave-last-out": "at least 3 interactions, the last ones with unseen items",
    "future": "interactions before the newest tenth of all, and in it with unseen items",
    "new-users": "at least 2 interactions in each of the splits, the last one with an unseen item",
    "cold-items": "interactions with a cold item and with others before it",
}


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Masks of the interactions that are histories and of those that are targets."""

    known: Bools  # [N]
    wanted: Bools  # [N]


_Parts: TypeAlias = "tuple[Bools, _HeldOut, _HeldOut]"
"""Mask [N] of the training interactions, and the masks held out for dev and for test."""


def _leave_last_out(dataset: Dataset) -> _Parts:
    events = dataset.interactions
    row, owner = np.arange(len(events)), events.owner
    before, last = _last_chosen(dataset)
    split = ((before > events.offsets[:-1]) & (last > before))[owner]
    dev, test = (_HeldOut(split & (row < at[owner]), split & (row == at[owner])) for at in (before, last))
    return ~split | dev.known, dev, test


def _future(dataset: Dataset) -> _Parts:
    time = dataset.interactions.timestamp
    dev, test = period_starts(dataset)
    return (
        time < dev,
        _HeldOut(time < dev, (time >= dev) & (time < test)),
        _HeldOut(time < test, time >= test),
    )


def period_starts(dataset: Dataset) -> tuple[int, int]:
    """Return the start times of the dev and the test period of ``future``: the second newest and the newest tenth.

    Raises:
        DataError: The dataset has no times.
    """
    if not dataset.info.has_times:
        raise DataError(
            f"{dataset.info.name} has no times, which the protocol future splits by; choose another protocol, or "
            "prepare the data with a time column (--time-col)",
            dataset.path,
        )
    times = np.sort(dataset.interactions.timestamp)
    dev, test = (int(times[int(len(times) * (1 - share * HELD_OUT_SHARE))]) for share in (2, 1))
    return dev, test


def _new_users(dataset: Dataset) -> _Parts:
    events = dataset.interactions
    row, last = np.arange(len(events)), _last_chosen(dataset)[1][events.owner]
    split = dataset.split_of_user[events.owner]
    dev, test = (
        _HeldOut(row < last, (row == last) & (split == SPLITS.index(name))) for name in ("dev", "test")
    )
    return split == SPLITS.index("train"), dev, test


_PARTS: dict[RankingProtocol, Callable[[Dataset], _Parts]] = {
    "leave-last-out": _leave_last_out,
    "future": _future,
    "new-users": _new_users,
}


def draw_cold_items(dataset: Dataset, seed: int) -> tuple[Indices, Indices]:
    """Draw the indices of the cold items of dev and of test, each ascending."""
    items = len(dataset.items)
    number = int(items * HELD_OUT_SHARE)
    drawn = np.random.default_rng(seed).permutation(items).astype(np.int32)
    return np.sort(drawn[number : 2 * number]), np.sort(drawn[:number])


def _cold_items(dataset: Dataset, dev: Indices, test: Indices) -> _Parts:
    events = dataset.interactions
    warm = ~np.isin(events.item_index, np.concatenate([dev, test]))

    def last_of(items: Indices) -> _HeldOut:
        row = np.arange(len(events))
        _, last = _last_of(events, dataset.chosen(events) & np.isin(events.item_index, items))
        return _HeldOut(warm & (row < last[events.owner]), row == last[events.owner])

    return warm, last_of(dev), last_of(test)


def _last_chosen(dataset: Dataset) -> tuple[Ints, Ints]:
    """Return the rows of each user's second-to-last and last chosen interaction; see :func:`_last_of`."""
    return _last_of(dataset.interactions, dataset.chosen(dataset.interactions))


def _last_of(events: Interactions, of: Bools) -> tuple[Ints, Ints]:
    """Return the rows of each user's second-to-last and last interaction in the mask ``of`` [N], [U] each.

    A row before the user's first means that there is none.
    """
    rows = np.flatnonzero(of)
    until = np.searchsorted(rows, events.offsets[1:])  # number of masked rows up to each user's end
    padded = np.concatenate([[-1, -1], rows])
    return padded[until], padded[until + 1]


def _cases(dataset: Dataset, held_out: _HeldOut, keep_seen: bool) -> tuple[RankingCases, dict[str, int]]:
    events, users = dataset.interactions, len(dataset.interactions.lengths)
    histories = events.where(held_out.known)
    rows = np.flatnonzero(held_out.wanted & dataset.chosen(events))
    ends = np.cumsum(np.bincount(events.owner[rows], minlength=users))[:-1]
    wanted_of = np.split(events.item_index[rows], ends)
    first_time = np.zeros(users, dtype=np.int64)
    first_time[events.owner[rows[::-1]]] = events.timestamp[rows[::-1]]  # the first is written last
    told = histories.where(dataset.chosen(histories)).lengths > 0
    asked = np.flatnonzero(told & np.array([len(one) > 0 for one in wanted_of]))
    targets: list[Indices] = []
    for user in asked:
        wanted = wanted_of[user]
        if not keep_seen:
            seen = histories.item_index[histories.offsets[user] : histories.offsets[user + 1]]
            wanted = wanted[~np.isin(wanted, seen)]
        _, first = np.unique(wanted, return_index=True)
        targets.append(wanted[np.sort(first)])
    kept = np.array([len(one) > 0 for one in targets], dtype=np.bool_)
    found = asked[kept]
    width = max((len(one) for one in targets), default=1)
    table = np.full((len(found), width), -1, dtype=np.int32)
    for row, wanted in enumerate(one for one in targets if len(one)):
        table[row, : len(wanted)] = wanted
    longest = max(int(histories.lengths.max(initial=1)), 1)
    windows = draw_windows(histories, found, longest, "recent", np.random.default_rng(0))
    left_out = {
        "without_history_or_target": users - len(asked),
        "only_seen_items": int((~kept).sum()),
    }
    return RankingCases(found, windows, table, first_time[found]), left_out


def training_view(dataset: Dataset, kept: Bools, cold: tuple[Indices, Indices] | None = None) -> Dataset:
    """Return the dataset restricted to some interactions, with all users as training users.

    Args:
        dataset: The dataset.
        kept: Mask of the interactions to keep, [N].
        cold: Indices of the cold items of dev and of test; those without kept interactions are marked as new.
    """
    events = dataset.interactions
    lengths = np.bincount(events.owner[kept], minlength=len(events.lengths))
    split = np.full_like(dataset.split_of_user, SPLITS.index("train"))
    texts = dataset.review_texts
    view = replace(
        dataset,
        interactions=events.take(kept, lengths),
        split_of_user=split,
        path=None,
        reviews=None if texts is None else texts.filter(kept),
    )
    if cold is not None:
        new = np.isin(np.arange(len(dataset.items)), np.concatenate(cold))
        new[view.interactions.item_index] = False
        view = replace(view, new_items=new)
    info = dataset.info.model_copy(
        update={
            "interactions": len(view.interactions),
            "split_sizes": {name: len(split) if name == "train" else 0 for name in SPLITS},
            "fingerprint": fingerprint(view.tables, dataset.info.rating_values, dataset.info.category_field),
        }
    )
    return replace(view, info=info)
