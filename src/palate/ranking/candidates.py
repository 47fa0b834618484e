"""Candidates of a ranking: all items, some sampled ones, or those of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from palate.data.tabular.sequences import sequence_lines
from palate.data.tabular.skipped_rows import SkippedRows
from palate.errors import DataError, did_you_mean
from palate.schema import Indices

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.data.protocols import RankingCases

ALL = "all"
Candidates: TypeAlias = Indices | None
"""Items beside the targets that are ranked, [B, C], -1 where a user has fewer; None for all items."""


def find_candidates(
    asked: str | int | Path, dataset: Dataset, cases: RankingCases, keep_seen: bool, seed: int
) -> tuple[RankingCases, Candidates]:
    """Find the items that each user's targets are ranked among.

    Args:
        asked: ``all``, a number of items to draw, or a file: a user and items on each line, separated by blanks.
        dataset: The dataset.
        cases: The cases.
        keep_seen: Whether drawn items may be part of the history.
        seed: Seed of drawn items.

    Returns:
        The cases, those of users in the file alone, and the candidates without targets.

    Raises:
        DataError: The file cannot be read, or names an unknown user or item; or more items are drawn than there are.
    """
    text = str(asked)
    if text == ALL:
        return cases, None
    if text.isdecimal():
        return cases, _drawn(int(text), dataset, cases, keep_seen, seed)
    return _of_file(Path(text), dataset, cases)


def only_among(items: Indices, cases: RankingCases) -> Indices:
    """List these items for each of B cases, but for its targets, as candidates [B, C]."""
    among = np.tile(items, (len(cases), 1))
    among[(among[:, :, None] == cases.targets[:, None, :]).any(axis=2)] = -1
    return among


def _drawn(number: int, dataset: Dataset, cases: RankingCases, keep_seen: bool, seed: int) -> Indices:
    """Draw items uniformly without replacement, neither targets nor, unless kept, seen."""
    rng = np.random.default_rng(seed)
    items = len(dataset.items)
    found = np.empty((len(cases), number), dtype=np.int32)
    for row in range(len(cases)):
        seen = cases.windows.item_index[row, : cases.windows.length[row]]
        barred = np.unique(np.concatenate([cases.targets[row], *([] if keep_seen else [seen])]))
        barred = barred[barred >= 0]
        if number > items - len(barred):
            raise DataError(
                f"{number:,} candidates are to be drawn, but only {items - len(barred):,} of {items:,} items are "
                f"left for user {dataset.user_ids[int(cases.user_index[row])]!r}; take fewer, or all",
                dataset.path,
            )
        drawn = rng.choice(items - len(barred), number, replace=False)
        # The n-th item that is not barred: each barred item at or below it moves it one up.
        found[row] = drawn + np.searchsorted(barred - np.arange(len(barred)), drawn, side="right")
    return found


def _of_file(path: Path, dataset: Dataset, cases: RankingCases) -> tuple[RankingCases, Indices]:
    lists = dict(_lines(path, dataset))
    kept = np.array([int(user) in lists for user in cases.user_index], dtype=np.bool_)
    if not kept.any():
        raise DataError(
            "no line is about a user whose items are ranked; name users as the dataset does", path
        )
    chosen = cases[kept]
    rows = [
        [item for item in lists[int(user)] if item not in targets]
        for user, targets in zip(chosen.user_index, chosen.targets.tolist(), strict=True)
    ]
    found = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int32)
    for row, items in enumerate(rows):
        found[row, : len(items)] = items
    return chosen, found


def _lines(path: Path, dataset: Dataset) -> Iterator[tuple[int, list[int]]]:
    """Yield each line's user and distinct items as indices."""
    if not path.exists():
        raise DataError("no such file of candidates; expected a file, a number, or all", path)
    place = {item_id: index for index, item_id in enumerate(dataset.item_ids)}
    owner = {user_id: index for index, user_id in enumerate(dataset.user_ids)}
    for line, user, items in sequence_lines(path, SkippedRows(allowed=False)):
        if user not in owner:
            raise DataError(f"no user {user!r} in {dataset.info.name}{did_you_mean(user, owner)}", path, line)
        unknown = next((item for item in items if item not in place), None)
        if unknown is not None:
            raise DataError(f"no item {unknown!r} in {dataset.info.name}", path, line)
        yield owner[user], list(dict.fromkeys(place[item] for item in items))
