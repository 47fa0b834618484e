"""Candidates of a ranking: all items, a sample, or those listed in a file."""

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
"""Item indices to rank beside the targets, [B, C]; -1 is padding. None for all items."""


def find_candidates(
    asked: str | int | Path, dataset: Dataset, cases: RankingCases, keep_seen: bool, seed: int
) -> tuple[RankingCases, Candidates]:
    """Determine the items that each user's targets are ranked among.

    Args:
        asked: ``all``, a number of items to sample, or a file whose lines hold a user and items, separated by blanks.
        dataset: Dataset of the cases.
        cases: Test or dev cases.
        keep_seen: Whether sampled items may be part of the history.
        seed: Seed of the sample.

    Returns:
        The cases (with a file, only those of users in it), and the candidates without the targets.

    Raises:
        DataError: The file is unreadable or names an unknown user or item, or the sample exceeds the catalogue.
    """
    text = str(asked)
    if text == ALL:
        return cases, None
    if text.isdecimal():
        return cases, _drawn(int(text), dataset, cases, keep_seen, seed)
    return _of_file(Path(text), dataset, cases)


def only_among(items: Indices, cases: RankingCases) -> Indices:
    """Return these items as candidates [B, C] of each case, with its targets masked by -1."""
    among = np.tile(items, (len(cases), 1))
    among[(among[:, :, None] == cases.targets[:, None, :]).any(axis=2)] = -1
    return among


def _drawn(number: int, dataset: Dataset, cases: RankingCases, keep_seen: bool, seed: int) -> Indices:
    """Sample items uniformly without replacement, excluding targets and, unless kept, seen items."""
    rng = np.random.default_rng(seed)
    items = len(dataset.items)
    found = np.empty((len(cases), number), dtype=np.int32)
    for row in range(len(cases)):
        seen = cases.windows.item_index[row, : cases.windows.length[row]]
        barred = np.unique(np.concatenate([cases.targets[row], *([] if keep_seen else [seen])]))
        barred = barred[barred >= 0]
        if number > items - len(barred):
            raise DataError(
                f"{number:,} candidates are requested, but only {items - len(barred):,} of {items:,} items are "
                f"left for user {dataset.user_ids[int(cases.user_index[row])]!r}; request fewer, or all",
                dataset.path,
            )
        drawn = rng.choice(items - len(barred), number, replace=False)
        # Map sampled numbers to items that are not excluded: each excluded item at or below shifts them up by one.
        found[row] = drawn + np.searchsorted(barred - np.arange(len(barred)), drawn, side="right")
    return found


def _of_file(path: Path, dataset: Dataset, cases: RankingCases) -> tuple[RankingCases, Indices]:
    lists = dict(_lines(path, dataset))
    kept = np.array([int(user) in lists for user in cases.user_index], dtype=np.bool_)
    if not kept.any():
        raise DataError("no line names a user of the ranking; write user ids as the dataset does", path)
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
    """Yield each line's user and distinct items, as indices."""
    if not path.exists():
        raise DataError("no such candidate file; expected a file, a number, or all", path)
    place = {item_id: index for index, item_id in enumerate(dataset.item_ids)}
    owner = {user_id: index for index, user_id in enumerate(dataset.user_ids)}
    for line, user, items in sequence_lines(path, SkippedRows(allowed=False)):
        if user not in owner:
            raise DataError(f"no user {user!r} in {dataset.info.name}{did_you_mean(user, owner)}", path, line)
        unknown = next((item for item in items if item not in place), None)
        if unknown is not None:
            raise DataError(f"no item {unknown!r} in {dataset.info.name}", path, line)
        yield owner[user], list(dict.fromkeys(place[item] for item in items))
