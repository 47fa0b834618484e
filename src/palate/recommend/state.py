"""State of a user: the newest interactions, the seen items, and the sums of the rating model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from palate.errors import DataError
from palate.recommend.ratings import RatingState
from palate.schema import Indices, Ints, RatingIndices, Windows


@dataclass(frozen=True, eq=False)
class TasteState:
    """State of one user for a :class:`Recommender`; of constant size but for the set of seen items."""

    user_id: str
    item_index: Indices  # [P] the newest interactions, oldest first
    rating_index: RatingIndices  # [P]
    timestamp: Ints  # [P]
    seen: frozenset[int]  # item indices
    ratings: RatingState | None  # B = 1; None where the data has no ratings
    count: int  # of all interactions

    @property
    def personal(self) -> bool:
        """Whether the user has interactions."""
        return self.count > 0

    def followed_by(self, later: TasteState, most: int) -> TasteState:
        """Append the state of later interactions.

        Args:
            later: State of interactions after all of these.
            most: Maximum number of newest interactions to keep.

        Returns:
            The combined state; its rating sums are those of the whole history.
        """

        def newest(name: str) -> np.ndarray:
            return np.concatenate([getattr(self, name), getattr(later, name)])[-most:]

        ratings = self.ratings
        if ratings is not None and later.ratings is not None:
            ratings = ratings.plus(later.ratings)
        return TasteState(
            self.user_id,
            newest("item_index"),
            newest("rating_index"),
            newest("timestamp"),
            self.seen | later.seen,
            ratings,
            self.count + later.count,
        )

    def without(self, past: TasteState) -> TasteState:
        """Remove the interactions of another state, each once; exact up to rounding of the rating sums.

        Args:
            past: State of interactions that this state contains.

        Returns:
            The state of the remaining interactions.

        Raises:
            DataError: An interaction is not in this state, or this state holds only its newest interactions.
        """
        if self.count > len(self.item_index):
            raise DataError(
                f"the state of {self.user_id} holds the newest {len(self.item_index):,} of {self.count:,} "
                "interactions, and cannot restore older ones; rebuild it from the history"
            )
        gone = Counter(_rows(past))
        kept = np.ones(self.count, dtype=np.bool_)
        for place, row in enumerate(_rows(self)):
            if gone[row]:
                gone[row] -= 1
                kept[place] = False
        if missing := sum(gone.values()):
            raise DataError(
                f"{missing} of the interactions to remove are not in the state of {self.user_id}; check them"
            )
        items = self.item_index[kept]
        ratings = self.ratings
        if ratings is not None and past.ratings is not None:
            ratings = ratings.plus(past.ratings, -1)
        return TasteState(
            self.user_id,
            items,
            self.rating_index[kept],
            self.timestamp[kept],
            frozenset(items.tolist()),
            ratings,
            len(items),
        )


def _rows(state: TasteState) -> Iterator[tuple[int, int, int]]:
    columns = (state.item_index, state.rating_index, state.timestamp)
    return zip(*(one.tolist() for one in columns), strict=True)


def newest_windows(states: Sequence[TasteState]) -> Windows:
    """Stack the newest interactions of B users as windows [B, P]."""
    length = np.array([len(state.item_index) for state in states], dtype=np.int64)
    shape = (len(states), max(int(length.max(initial=0)), 1))
    found = Windows(np.zeros(shape, np.int32), np.zeros(shape, np.uint8), np.zeros(shape, np.int64), length)
    for row, state in enumerate(states):
        at = slice(len(state.item_index))
        found.item_index[row, at] = state.item_index
        found.rating_index[row, at] = state.rating_index
        found.timestamp[row, at] = state.timestamp
    return found
