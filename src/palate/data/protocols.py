"""Protocols of ranking: what is learned from, what is tuned on, and what is ranked. The leakage boundary.

A ranker gets a dataset that holds the training interactions alone, and histories. Targets stay with the evaluator.
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
"""Share of the interactions that is the test period of ``future``, and of the items that are cold; as many are dev."""


@dataclass(frozen=True, eq=False)
class RankingCases:
    """B users with their histories, and the items to be found, which only the evaluator reads."""

    user_index: Ints  # [B] into the dataset's users
    windows: Windows  # whole histories
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
    """A dataset by a protocol."""

    training: Dataset
    """Items and users of the dataset with the training interactions alone; all users are training users."""
    dev: RankingCases
    test: RankingCases
    left_out: dict[str, int]
    """Numbers of test users without a case, by reason."""
    cold: Indices | None = None
    """Items of the test targets that nothing was learned of; None where a protocol has no such items."""


def make_split(
    dataset: Dataset, protocol: RankingProtocol, keep_seen: bool = False, seed: int = 0
) -> RankingSplit:
    """Divide a dataset into what is learned from and what is ranked.

    Of implicit feedback, only interactions that chose an item are targets: not skips, which stay in histories.

    - ``leave-last-out``: of each user with at least 3 interactions the last is the test target, the one before it the
      dev target and, at test time, part of the history; the others are training.
    - ``future``: the newest tenth of all interactions are test targets and the tenth before them dev targets, by time;
      those before are training. A user's history ends where the period begins.
    - ``new-users``: interactions of the training users are training; the last one of each dev and test user is the
      target, and the others the history, from which nothing was learned.
    - ``cold-items``: a tenth of the items are cold, another tenth are cold for dev, and interactions with either are
      not training, as if the items were new today. Each user's last interaction with a cold item is the target, and
      what came before it with other items the history.

    Args:
        dataset: The dataset.
        protocol: The protocol.
        keep_seen: Keep targets that are part of the history: repeated purchases. Otherwise they are left out, as seen
            items are from the ranking.
        seed: Seed of the cold items.

    Returns:
        The training data and the cases.

    Raises:
        DataError: The protocol needs times that the dataset does not have, or nobody is left to rank for.
    """
    if protocol not in RANKING_PROTOCOLS:
        raise DataError(f"there is no protocol {protocol!r}; expected one of {', '.join(RANKING_PROTOCOLS)}")
    cold = draw_cold_items(dataset, seed) if protocol == "cold-items" else None
    training, *held_out = _PARTS[protocol](dataset) if cold is None else _cold_items(dataset, *cold)
    found = [_cases(dataset, one, keep_seen) for one in held_out]
    for name, (cases, _) in zip(("dev", "test"), found, strict=True):
        if not len(cases):
            raise DataError(
                f"nobody of {dataset.info.name} has a {name} case by the protocol {protocol}, which takes users with "
                f"{_NEEDS[protocol]}; take another protocol, or more data",
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
    """Return which interactions are training, dev and test by a protocol of :func:`make_split`, and which are known.

    Returns:
        Four masks [N]; known are the training interactions and the histories that test targets are predicted from,
        of those what dev targets are predicted from too, so that none of either is a target.
    """
    training, dev, test = _PARTS[protocol](dataset)
    known = (training | test.known) & ~dev.wanted & ~test.wanted
    return training, dev.wanted, test.wanted, known


_NEEDS: dict[RankingProtocol, str] = {
    "leave-last-out": "at least 3 interactions, the last ones with unseen items",
    "future": "interactions before and in the newest tenth of all time, of unseen items",
    "new-users": "at least 2 interactions in each of the splits, the last one with an unseen item",
    "cold-items": "interactions with a cold item and with others before it",
}


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Which of N interactions are histories, and which are targets."""

    known: Bools  # [N]
    wanted: Bools  # [N]


_Parts: TypeAlias = "tuple[Bools, _HeldOut, _HeldOut]"
"""Which of N interactions are training, and what is held out for dev and test."""


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
    """Find the times at which the dev and the test period of ``future`` begin: before the newest tenths of all time.

    Raises:
        DataError: The dataset has no times.
    """
    if not dataset.info.has_times:
        raise DataError(
            f"{dataset.info.name} has no times, which the protocol future splits by; take another protocol, or "
            "prepare it with a column of times (--time-col)",
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
    """Draw the cold items of dev and of test, ascending."""
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
    """Rows of each user's last but one and last chosen interaction; see :func:`_last_of`."""
    return _last_of(dataset.interactions, dataset.chosen(dataset.interactions))


def _last_of(events: Interactions, of: Bools) -> tuple[Ints, Ints]:
    """Rows of each user's last but one and last interaction ``of`` [N], [U] each; before the user's where none is."""
    rows = np.flatnonzero(of)
    until = np.searchsorted(rows, events.offsets[1:])  # such ones up to each user's end
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
    """Return the dataset with these of its interactions [N] alone, all of training users.

    Args:
        dataset: The dataset.
        kept: Which of its interactions stay, [N].
        cold: Items of dev and of test that nothing is learned of: those without interactions here are new ones.
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
