"""Protocols of ranking: what is learned from, what is tuned on, and what is ranked. The leakage boundary.

A ranker gets a dataset that holds the training interactions alone, and histories. Targets stay with the evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

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
    Split,
    Windows,
)

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

HELD_OUT_SHARE = 0.1
"""Share of the interactions, the newest, that is the test period of ``future``; as many before them are dev."""


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


def make_split(dataset: Dataset, protocol: RankingProtocol, keep_seen: bool = False) -> RankingSplit:
    """Divide a dataset into what is learned from and what is ranked.

    Of implicit feedback, only interactions that chose an item are targets: not skips, which stay in histories.

    - ``leave-last-out``: of each user with at least 3 interactions the last is the test target, the one before it the
      dev target and, at test time, part of the history; the others are training.
    - ``future``: the newest tenth of all interactions are test targets and the tenth before them dev targets, by time;
      those before are training. A user's history ends where the period begins.
    - ``new-users``: interactions of the training users are training; the last one of each dev and test user is the
      target, and the others the history, from which nothing was learned.

    Args:
        dataset: The dataset.
        protocol: The protocol.
        keep_seen: Keep targets that are part of the history: repeated purchases. Otherwise they are left out, as seen
            items are from the ranking.

    Returns:
        The training data and the cases.

    Raises:
        DataError: The protocol needs times that the dataset does not have, or nobody is left to rank for.
    """
    if protocol not in RANKING_PROTOCOLS:
        raise DataError(f"there is no protocol {protocol!r}; expected one of {', '.join(RANKING_PROTOCOLS)}")
    split = {"leave-last-out": _leave_last_out, "future": _future, "new-users": _new_users}[protocol]
    training, dev, test = split(dataset)
    found = [_cases(dataset, *held_out, keep_seen) for held_out in (dev, test)]
    for name, (cases, _) in zip(("dev", "test"), found, strict=True):
        if not len(cases):
            raise DataError(
                f"nobody of {dataset.info.name} has a {name} case by the protocol {protocol}, which takes users with "
                f"{_NEEDS[protocol]}; take another protocol, or more data",
                dataset.path,
            )
    (dev_cases, _), (test_cases, left_out) = found
    return RankingSplit(_training_view(dataset, training), dev_cases, test_cases, left_out)


_NEEDS: dict[RankingProtocol, str] = {
    "leave-last-out": "at least 3 interactions, the last ones with unseen items",
    "future": "interactions before and in the newest tenth of all time, of unseen items",
    "new-users": "at least 2 interactions in each of the splits, the last one with an unseen item",
}

_HeldOut: TypeAlias = "tuple[Ints, Ints]"
"""For each of the U users: where the history ends and where the targets end, as rows; equal where there are none."""


def _leave_last_out(dataset: Dataset) -> tuple[Bools, _HeldOut, _HeldOut]:
    events = dataset.interactions
    start, stop = events.offsets[:-1], events.offsets[1:]
    before, last = _last_chosen(dataset)
    split = (before > start) & (last > before)
    training_end = np.where(split, before, stop)
    dev = training_end, np.where(split, before + 1, training_end)
    test = np.where(split, last, stop), np.where(split, last + 1, stop)
    owner = events.owner
    return np.arange(len(events)) < training_end[owner], _with_history(dev, start), _with_history(test, start)


def _future(dataset: Dataset) -> tuple[Bools, _HeldOut, _HeldOut]:
    if not dataset.info.has_times:
        raise DataError(
            f"{dataset.info.name} has no times, which the protocol future splits by; take leave-last-out, or prepare "
            "it with a column of times (--time-col)",
            dataset.path,
        )
    events = dataset.interactions
    start = events.offsets[:-1]
    times = np.sort(events.timestamp)
    cuts = [times[int(len(times) * (1 - share * HELD_OUT_SHARE))] for share in (2, 1)]
    ends = []
    for cut in cuts:  # interactions are sorted by time within each user
        before = np.concatenate([[0], np.cumsum(events.timestamp < cut)])
        ends.append(start + before[events.offsets[1:]] - before[start])
    training_end, dev_end = ends
    dev, test = (training_end, dev_end), (dev_end, events.offsets[1:])
    return events.timestamp < cuts[0], _with_history(dev, start), _with_history(test, start)


def _new_users(dataset: Dataset) -> tuple[Bools, _HeldOut, _HeldOut]:
    events = dataset.interactions
    start, stop = events.offsets[:-1], events.offsets[1:]
    _, last = _last_chosen(dataset)

    def last_of(split: Split) -> _HeldOut:
        held_out = (dataset.split_of_user == SPLITS.index(split)) & (last >= start)
        return _with_history((np.where(held_out, last, stop), np.where(held_out, last + 1, stop)), start)

    training = (dataset.split_of_user == SPLITS.index("train"))[events.owner]
    return training, last_of("dev"), last_of("test")


def _last_chosen(dataset: Dataset) -> tuple[Ints, Ints]:
    """Rows of each user's last but one and last chosen interaction, [U] each; before the user's rows where none is."""
    offsets = dataset.interactions.offsets
    rows = np.flatnonzero(dataset.chosen)
    until = np.searchsorted(rows, offsets[1:])  # chosen ones up to each user's end
    padded = np.concatenate([[-1, -1], rows])
    return padded[until], padded[until + 1]


def _with_history(held_out: _HeldOut, start: Ints) -> _HeldOut:
    """Leave out the targets of users without a history."""
    history_end, target_end = held_out
    return history_end, np.where(history_end > start, target_end, history_end)


def _cases(
    dataset: Dataset, history_end: Ints, target_end: Ints, keep_seen: bool
) -> tuple[RankingCases, dict[str, int]]:
    events = dataset.interactions
    asked = np.flatnonzero(target_end > history_end)
    rows = [np.arange(history_end[user], target_end[user]) for user in asked]
    targets: list[Indices] = []
    for user, own in zip(asked, rows, strict=True):
        wanted = events.item_index[own][dataset.chosen[own]]
        if not keep_seen:
            wanted = wanted[~np.isin(wanted, events.item_index[events.offsets[user] : history_end[user]])]
        _, first = np.unique(wanted, return_index=True)
        targets.append(wanted[np.sort(first)])
    kept = np.array([len(one) > 0 for one in targets], dtype=np.bool_)
    users = asked[kept]
    width = max((len(one) for one in targets), default=1)
    table = np.full((len(users), width), -1, dtype=np.int32)
    for row, wanted in enumerate(one for one in targets if len(one)):
        table[row, : len(wanted)] = wanted
    histories = _until(events, history_end)
    longest = max(int(histories.lengths.max(initial=1)), 1)
    windows = draw_windows(histories, users, longest, "recent", np.random.default_rng(0))
    cases = RankingCases(users, windows, table, events.timestamp[history_end[users]])
    left_out = {
        "without_history_or_target": len(events.lengths) - len(asked),
        "only_seen_items": int((~kept).sum()),
    }
    return cases, left_out


def _until(events: Interactions, end: Ints) -> Interactions:
    """Select each user's interactions before the row ``end`` [U]."""
    return events.take(np.arange(len(events)) < end[events.owner], end - events.offsets[:-1])


def _training_view(dataset: Dataset, kept: Bools) -> Dataset:
    """Return the dataset with these interactions [N] alone, all of training users."""
    events = dataset.interactions
    lengths = np.bincount(events.owner[kept], minlength=len(events.lengths))
    split = np.full_like(dataset.split_of_user, SPLITS.index("train"))
    view = replace(dataset, interactions=events.take(kept, lengths), split_of_user=split, path=None)
    info = dataset.info.model_copy(
        update={
            "interactions": len(view.interactions),
            "split_sizes": {name: len(split) if name == "train" else 0 for name in SPLITS},
            "fingerprint": fingerprint(view.tables, dataset.info.rating_values, dataset.info.category_field),
        }
    )
    return replace(view, info=info)
