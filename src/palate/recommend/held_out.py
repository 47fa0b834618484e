"""Held-out interactions of training users, on which the scorer's weights are tuned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.windows import draw_windows
from palate.schema import Bools, Indices, Interactions, Ints, Windows

ENOUGH = 500
"""Held-out interactions that suffice for one fold; with fewer, all users are held out in :data:`FOLDS` folds."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One held-out interaction of each of B users: the history before it, and the target item."""

    windows: Windows
    target: Indices  # [B]

    def __len__(self) -> int:
        return len(self.target)

    def limited(self, most: int, rng: np.random.Generator) -> HeldOut:
        """Sample at most ``most`` of them."""
        if len(self) <= most:
            return self
        rows = np.sort(rng.choice(len(self), most, replace=False))
        return HeldOut(self.windows[rows], self.target[rows])


def user_folds(lengths: Ints, share: float, rng: np.random.Generator) -> list[Ints]:
    """Choose the users to hold out.

    Args:
        lengths: Number of interactions of each user, [U]; users with fewer than two are never held out.
        share: Share of the users to hold out if that gives at least :data:`ENOUGH`.
        rng: Random number generator.

    Returns:
        One group of ``share`` of the users, or else a partition of all into :data:`FOLDS` groups.
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
        events: Interactions of users with at least two each, at least one of which is allowed.
        ordered: Hold out the last allowed one and keep what came before; otherwise a random one, and keep all others.
        most: Maximum number of newest interactions in a history.
        rng: Random number generator.
        allowed: Which interactions may be held out, [N]; all if None.

    Returns:
        The remaining histories and the held-out items.
    """
    able = np.arange(len(events)) if allowed is None else np.flatnonzero(allowed)
    first, end = np.searchsorted(able, events.offsets[:-1]), np.searchsorted(able, events.offsets[1:])
    kept = able[end - 1] if ordered else able[first + rng.integers(0, end - first)]
    rows = np.arange(len(events))
    held = kept[events.owner]
    before = events.where(rows < held if ordered else rows != held)
    windows = draw_windows(before, np.arange(len(kept)), most, "recent", rng)
    return HeldOut(windows, events.item_index[kept])
