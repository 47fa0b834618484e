"""From histories to windows, statistics and examples: the leakage boundary.

Targets come from a user's full history, windows show a part of it, and every example belongs to one split. All of
that is decided here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.errors import LeakageError, PalateError
from palate.schema import Examples, Interactions, Ints, Split, WindowKind, Windows
from palate.tasks.statistics import category_statistics

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.base import Task


def draw_windows(
    interactions: Interactions, user_index: Ints, size: int, kind: WindowKind, rng: np.random.Generator
) -> Windows:
    """Draw one window of at most ``size`` interactions for each entry of ``user_index`` [B].

    ``recent`` takes the newest, ``random`` a uniform sample without replacement; both keep the order of time. A
    history shorter than ``size`` is shown whole.
    """
    if size < 1:
        raise PalateError(f"a window of {size} interactions was asked for; it takes at least 1")
    start = interactions.offsets[user_index]
    available = interactions.offsets[user_index + 1] - start
    length = np.minimum(available, size)
    widest = int(length.max(initial=0))
    if kind == "recent":
        position = (available - length)[:, None] + np.arange(widest)
    else:
        position = _sample_positions(available, length, widest, rng)
    rows = np.where(np.arange(widest) < length[:, None], start[:, None] + position, 0)
    mask = np.arange(widest) < length[:, None]
    return Windows(
        item_index=np.where(mask, interactions.item_index[rows], 0).astype(np.int32),
        rating_index=np.where(mask, interactions.rating_index[rows], 0).astype(np.uint8),
        timestamp=np.where(mask, interactions.timestamp[rows], 0),
        length=length,
    )


def _sample_positions(available: Ints, length: Ints, widest: int, rng: np.random.Generator) -> Ints:
    """Floyd's sampling without replacement, all rows at once: ascending positions [B, widest].

    Row b holds ``length[b]`` distinct numbers below ``available[b]``; what lies beyond is meaningless.
    """
    beyond = np.iinfo(np.int64).max
    chosen = np.full((len(available), widest), beyond, dtype=np.int64)
    for step in range(widest):
        highest = available - length + step
        drawn = (rng.random(len(available)) * (highest + 1)).astype(np.int64)
        taken = (chosen[:, :step] == drawn[:, None]).any(axis=1)
        chosen[:, step] = np.where(step < length, np.where(taken, highest, drawn), beyond)
    chosen.sort(axis=1)
    return chosen


def make_examples(
    dataset: Dataset, task: Task, split: Split, size: int, kind: WindowKind, seed: int
) -> Examples:
    """One example for every user of a split: a window, and the truth from the full history."""
    users = dataset.users(split)
    statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    windows = draw_windows(dataset.interactions, users, size, kind, np.random.default_rng(seed))
    return Examples(users, windows, task.labels(statistics[users]))


def require_training_users(dataset: Dataset, user_index: Ints, purpose: str) -> None:
    """Raise :class:`LeakageError` unless all of ``user_index`` [B] are training users."""
    others = np.setdiff1d(user_index, dataset.users("train"))
    if len(others):
        raise LeakageError(
            f"{purpose} may only use training users, but {len(others)} of {len(user_index)} are dev or test "
            f"users (the first: {dataset.user_ids[int(others[0])]!r}); take dataset.users('train')"
        )
