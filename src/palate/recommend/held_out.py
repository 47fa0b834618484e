"""Which interactions are held out of training, to learn a scorer's weights from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.windows import draw_windows
from palate.schema import Bools, Indices, Interactions, Ints, Windows

ENOUGH = 500
"""Held-out interactions of one fold that teach the weights; below, all users are held out in turn."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out interactions of B users: what came before them, and the item."""

    windows: Windows
    target: Indices  # [B]

    def __len__(self) -> int:
        return len(self.target)

    def limited(self, most: int, rng: np.random.Generator) -> HeldOut:
        """Draw ``most`` of them where they are more."""
        if len(self) <= most:
            return self
        rows = np.sort(rng.choice(len(self), most, replace=False))
        return HeldOut(self.windows[rows], self.target[rows])


def user_folds(lengths: Ints, share: float, rng: np.random.Generator) -> list[Ints]:
    """Choose users to hold out.

    Args:
        lengths: Number of interactions of each user, [U]; it takes two to hold one out.
        share: Share of the users to hold out where that is enough of them.
        rng: Random number generator.

    Returns:
        One group of ``share`` of the users, or, where that is less than :data:`ENOUGH`, a partition of all.
    """
    able = rng.permutation(np.flatnonzero(lengths >= 2))
    number = int(share * len(able))
    parts = [able[:number]] if number >= ENOUGH else np.array_split(able, FOLDS)
    return [np.sort(one) for one in parts if len(one)]


def hold_out(
    events: Interactions, ordered: bool, most: int, rng: np.random.Generator, allowed: Bools | None = None
) -> HeldOut:
    """Hold out one interaction of each user.

    Args:
        events: Interactions of users with at least two each, of whom each has one that is allowed.
        ordered: Whether it is the last one; a random one if not, and then all others are its history.
        most: Newest interactions that a history keeps.
        rng: Random number generator.
        allowed: Which interactions may be held out, [N]; all if None.

    Returns:
        The histories without it, or where order counts before it, and its item.
    """
    able = np.arange(len(events)) if allowed is None else np.flatnonzero(allowed)
    first, end = np.searchsorted(able, events.offsets[:-1]), np.searchsorted(able, events.offsets[1:])
    kept = able[end - 1] if ordered else able[first + rng.integers(0, end - first)]
    rows = np.arange(len(events))
    held = kept[events.owner]
    before = events.where(rows < held if ordered else rows != held)
    windows = draw_windows(before, np.arange(len(kept)), most, "recent", rng)
    return HeldOut(windows, events.item_index[kept])
