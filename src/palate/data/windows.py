"""Windows, label statistics and examples of histories: the leakage boundary.

A window shows a part of a user's history, labels are computed from all of it or from the part outside the window, and
every example belongs to one split. All of that is decided here and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError, LeakageError, PalateError
from palate.schema import (
    Bools,
    EventTexts,
    Examples,
    Interactions,
    Ints,
    LeftOut,
    Split,
    Truth,
    UserChoice,
    WindowKind,
    Windows,
)
from palate.tasks.statistics import CategoryStatistics, category_statistics
from palate.words import counted

if TYPE_CHECKING:
    from palate.config.recipe import WindowSettings
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference


def window_size(windows: WindowSettings, rng: np.random.Generator) -> int:
    """Draw the size of training windows log-uniformly."""
    return round(math.exp(rng.uniform(math.log(windows.shortest), math.log(windows.longest))))


def draw_windows(
    interactions: Interactions, user_index: Ints, size: int, kind: WindowKind, rng: np.random.Generator
) -> Windows:
    """Draw one window of at most ``size`` interactions for each entry of ``user_index`` [B].

    ``recent`` takes the newest, ``random`` a uniform sample without replacement; both are sorted by time. The window
    of a history with at most ``size`` interactions is marked as complete.
    """
    start, stop = interactions.offsets[user_index], interactions.offsets[user_index + 1]
    drawn = _Rows.drawn(start, stop - start, size, kind, rng).windows(interactions)
    return replace(drawn, complete=stop - start <= size)


def draw_with_truth(
    dataset: Dataset, user_index: Ints, size: int, kind: WindowKind, truth: Truth, rng: np.random.Generator
) -> tuple[Windows, CategoryStatistics]:
    """Draw one window for each entry of ``user_index`` [B], with the statistics that its labels are computed from.

    Windows are those of :func:`draw_windows`. With ``truth="future"`` they are drawn from the older half of each
    history, or from its oldest ``size`` interactions if the half is shorter, so that interactions follow them.

    Args:
        dataset: The histories.
        user_index: User indices, which may repeat, [B].
        size: Maximum number of interactions in a window.
        kind: Recent or random interactions.
        truth: Interactions that the labels come from: the full history (``labels``), those outside the window
            (``unseen``), or those with a later time than the window's newest (``future``).
        rng: Random number generator.

    Returns:
        The windows, and the statistics of the interactions that the labels come from, [B, L].

    Raises:
        DataError: ``truth`` is ``future``, but the data has no times.
    """
    interactions = dataset.interactions
    if truth == "labels":
        return draw_windows(interactions, user_index, size, kind, rng), dataset.statistics[user_index]
    start, stop = interactions.offsets[user_index], interactions.offsets[user_index + 1]
    drawn_from = stop - start
    if truth == "future":
        if not dataset.info.has_times:
            raise DataError(
                f"{dataset.info.name} has no times, which the truth 'future' needs; take the truth 'unseen', or "
                "prepare the data with a time column (--time-col)",
                dataset.path,
            )
        drawn_from = np.maximum((drawn_from + 1) // 2, np.minimum(drawn_from, size))
    rows = _Rows.drawn(start, drawn_from, size, kind, rng)
    windows = rows.windows(interactions)
    beyond = rows.outside(stop) if truth == "unseen" else rows.after(stop, interactions.timestamp)
    statistics = category_statistics(
        interactions.take(*beyond), dataset.category_matrix, dataset.rating_values
    )
    return windows, statistics


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of the interactions in B windows; entries beyond a window's length are undefined."""

    start: Ints  # [B] first row of each user
    rows: Ints  # [B, P]
    length: Ints  # [B]

    @classmethod
    def drawn(
        cls, start: Ints, available: Ints, size: int, kind: WindowKind, rng: np.random.Generator
    ) -> _Rows:
        """Draw rows from the ``available`` [B] oldest interactions of each user."""
        if size < 1:
            raise PalateError(f"the window size is {size}; expected at least 1 interaction")
        length = np.minimum(available, size)
        widest = int(length.max(initial=0))
        if kind == "recent":
            position = (available - length)[:, None] + np.arange(widest)
        else:
            position = _sample_positions(available, length, widest, rng)
        mask = np.arange(widest) < length[:, None]
        return cls(start, np.where(mask, start[:, None] + position, 0), length)

    @property
    def mask(self) -> Bools:
        return np.arange(self.rows.shape[1]) < self.length[:, None]

    def windows(self, interactions: Interactions) -> Windows:
        rows, mask = self.rows, self.mask
        return Windows(
            item_index=np.where(mask, interactions.item_index[rows], 0).astype(np.int32),
            rating_index=np.where(mask, interactions.rating_index[rows], 0).astype(np.uint8),
            timestamp=np.where(mask, interactions.timestamp[rows], 0),
            length=self.length,
            texts=None if interactions.texts is None else _texts_of(interactions.texts, rows, mask),
        )

    def outside(self, stop: Ints) -> tuple[Ints, Ints]:
        """Return the rows of the users' histories outside their windows, [N], and the number of each user, [B]."""
        every, owner, first = self._every(stop)
        unseen = np.ones(len(every), dtype=np.bool_)
        unseen[(self.rows - self.start[:, None] + first[:, None])[self.mask]] = False
        return every[unseen], np.bincount(owner[unseen], minlength=len(stop))

    def after(self, stop: Ints, timestamp: Ints) -> tuple[Ints, Ints]:
        """Return the rows later than the window's newest interaction, [N], and the number of each user, [B]."""
        every, owner, _ = self._every(stop)
        shown = np.where(self.mask, timestamp[self.rows], np.iinfo(np.int64).min)
        later = timestamp[every] > shown.max(axis=1, initial=np.iinfo(np.int64).min)[owner]
        return every[later], np.bincount(owner[later], minlength=len(stop))

    def _every(self, stop: Ints) -> tuple[Ints, Ints, Ints]:
        """Return all rows of the users [N], the user of each [N], and the position of each user's first [B]."""
        lengths = stop - self.start
        first = np.cumsum(lengths) - lengths
        owner = np.repeat(np.arange(len(stop)), lengths)
        return np.arange(len(owner)) + (self.start - first)[owner], owner, first


def _texts_of(texts: EventTexts, rows: Ints, mask: Bools) -> EventTexts:
    return EventTexts(np.where(mask, texts.row[rows], 0), texts.vectors)


def _sample_positions(available: Ints, length: Ints, widest: int, rng: np.random.Generator) -> Ints:
    """Sample positions without replacement by Floyd's algorithm, vectorised over users: [B, widest], ascending.

    Row b holds ``length[b]`` distinct numbers below ``available[b]``; later entries are undefined.
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
    dataset: Dataset,
    task: CategoryPreference,
    split: Split,
    size: int,
    kind: WindowKind,
    seed: int,
    users: UserChoice = "all",
    truth: Truth = "labels",
) -> Examples:
    """Create one example for each user of a split: a window, and the true labels.

    Args:
        dataset: The histories.
        task: The task, with its label rule.
        split: Split of the users.
        size: Maximum number of interactions in a window.
        kind: Recent or random interactions.
        seed: Seed of random windows, which do not depend on ``users``.
        users: ``all`` users, or only those whose history is longer than the window (``partly``).
        truth: Interactions that the labels come from, as in :func:`draw_with_truth`.

    Returns:
        The examples, with the numbers of users left out: by ``users``, and because fewer interactions than a label
        needs are outside the window (``unseen``) or after it (``future``).

    Raises:
        DataError: No user is left, or ``truth`` is ``future`` and the data has no times.
    """
    everybody = dataset.users(split)
    rng = np.random.default_rng(seed)
    windows, statistics = draw_with_truth(dataset, everybody, size, kind, truth, rng)
    longer = dataset.interactions.lengths[everybody] > size
    told = np.ones(len(everybody), dtype=np.bool_)
    if truth != "labels":
        told = statistics.length >= task.settings.min_count
    asked = longer if users == "partly" else np.ones_like(longer)
    kept = asked & told
    if len(everybody) and not kept.any():
        raise DataError(_nobody_left(dataset, split, size, task, truth, bool(asked.any())), dataset.path)
    left_out = LeftOut(int((~asked).sum()), int((asked & ~told).sum()))
    return Examples(everybody[kept], windows[kept], task.labels(statistics[kept]), left_out)


def _nobody_left(
    dataset: Dataset, split: Split, size: int, task: CategoryPreference, truth: Truth, some_are_longer: bool
) -> str:
    longest = int(dataset.interactions.lengths[dataset.users(split)].max())
    found = f"the longest history of the {split} users of {dataset.info.name} has {counted(longest, 'interaction')}"
    if not some_are_longer:
        return f"{found}, none more than the window of {size:,}; take a smaller window, or all users (--users all)"
    where = "after" if truth == "future" else "outside"
    return (
        f"{found}, and none has the {task.settings.min_count} that a label takes {where} a window of {size:,}; take a "
        "smaller window, or the truth 'labels'"
    )


def require_training_users(dataset: Dataset, user_index: Ints, purpose: str) -> None:
    """Raise :class:`LeakageError` unless all of ``user_index`` [B] are training users."""
    others = np.setdiff1d(user_index, dataset.users("train"))
    if len(others):
        raise LeakageError(
            f"{purpose} may only use training users, but {len(others)} of {len(user_index)} are dev or test "
            f"users (the first: {dataset.user_ids[int(others[0])]!r}); use dataset.users('train')"
        )
