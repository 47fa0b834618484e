"""Shared data types: items, histories, interactions, windows, labels and examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Split: TypeAlias = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Feedback: TypeAlias = Literal["ratings", "implicit"]
QuestionKind: TypeAlias = Literal[
    "preference", "liked", "disliked", "yes-no", "pair", "rating", "item-yes-no", "item-pair"
]
WindowKind: TypeAlias = Literal["recent", "random"]
ConditioningKind: TypeAlias = Literal["prompt", "cross-attention"]
LabelRule: TypeAlias = Literal["thresholds", "own-mean", "quantiles"]
"""Rule by which a category's score makes it liked or disliked: fixed thresholds, thresholds relative to the user's
own mean rating, or quantiles of the population's scores."""
RULES: tuple[LabelRule, ...] = ("thresholds", "own-mean", "quantiles")
UserChoice: TypeAlias = Literal["partly", "all"]
"""Users that are evaluated: those whose history is longer than the window (``partly``), or all."""
Truth: TypeAlias = Literal["labels", "unseen", "future"]
"""Interactions that true labels are computed from: the full history, those outside the window, or those after it."""
TRUTHS: tuple[Truth, ...] = ("labels", "unseen", "future")
RankingProtocol: TypeAlias = Literal["leave-last-out", "future", "new-users", "cold-items"]
"""Held-out data: each user's last interaction, the newest 10% of all interactions, entire users, or items."""
RANKING_PROTOCOLS: tuple[RankingProtocol, ...] = get_args(RankingProtocol)

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.int32]
RatingIndices: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """A catalogue item as text; also the form of new items at inference.

    Example:
        >>> item = palate.Item("new", "The Long Way", ("Travel",), description="By train to Vladivostok")
        >>> model.with_items([item]).table.unknown(["new"])
        []
    """

    item_id: str
    title: str
    categories: tuple[str, ...] = ()
    description: str | None = None
    year: int | None = None


def titled(item: Item) -> str:
    """Format an item's title with its year, if there is one."""
    return item.title if item.year is None else f"{item.title} ({item.year})"


@dataclass(frozen=True)
class History:
    """One user's interactions, oldest first, with item ids. All sequences have the same length.

    Example:
        >>> history = palate.History("me", ["3", "8"], [5.0, 2.0], [1704067200, 1704153600])
        >>> len(history), history.latest(1).item_ids
        (2, ['8'])
    """

    user_id: str
    item_ids: Sequence[str]
    ratings: Sequence[float]
    timestamps: Sequence[int]
    event_ids: Sequence[str] = ()
    """Ids of the interactions in a user store; empty if they have none."""
    texts: Sequence[str] = ()
    """Texts that the user wrote, such as reviews, '' where there is none; empty if there are none at all."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, rows: Iterable[int]) -> History:
        """Select interactions by position, in the given order."""
        at = list(rows)
        columns = (self.item_ids, self.ratings, self.timestamps, self.event_ids, self.texts)
        return History(self.user_id, *([column[row] for row in at] if column else () for column in columns))  # type: ignore[arg-type]

    def latest(self, count: int | None = None, repeats: bool = False) -> History:
        """Drop superseded interactions, then keep the most recent ones.

        A later interaction with an item supersedes the earlier ones, as in prepared data and in the user store, unless
        the data keeps repeated interactions.

        Args:
            count: How many interactions to keep; None keeps all.
            repeats: Whether earlier interactions with an item stay beside later ones.

        Returns:
            The interactions that count, oldest first, at most ``count`` of them.
        """
        rows: Sequence[int] = range(len(self))
        if not repeats:
            rows = sorted({item_id: row for row, item_id in enumerate(self.item_ids)}.values())
        if len(rows) == len(self) and (count is None or count >= len(self)):
            return self
        return self.take(rows if count is None else rows[max(len(rows) - count, 0) :])


@dataclass(frozen=True, eq=False)
class EventTexts:
    """Embeddings of events' texts, such as reviews, [...]; row 0 of ``vectors`` is zeros, for events without one."""

    row: Ints  # [...] into vectors
    vectors: Floats  # [T, S]

    def __getitem__(self, at: Any) -> EventTexts:
        return EventTexts(self.row[at], self.vectors)

    @property
    def each(self) -> Floats:
        """The vector of each event, [..., S]."""
        return self.vectors[self.row]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Interactions of U users as columns, grouped by user and sorted by time, stably."""

    offsets: Ints  # [U + 1]: user u owns rows offsets[u] to offsets[u + 1]
    item_index: Indices  # [N] into the dataset's items
    rating_index: RatingIndices  # [N] into the dataset's rating values
    timestamp: Ints  # [N] seconds since 1970
    texts: EventTexts | None = None  # [N] embeddings of events' texts, if a model reads them

    def __len__(self) -> int:
        return len(self.item_index)

    @property
    def lengths(self) -> Ints:
        """Number of interactions of each user, [U]."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """User of each interaction, [N]."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def of_users(self, users: Ints) -> Interactions:
        """Select the histories of users [B], in their order."""
        lengths = self.lengths[users]
        before = np.cumsum(lengths) - lengths
        return self.take(np.repeat(self.offsets[users] - before, lengths) + np.arange(lengths.sum()), lengths)

    def where(self, kept: Bools) -> Interactions:
        """Select the interactions at which ``kept`` [N] is true."""
        return self.take(kept, np.bincount(self.owner[kept], minlength=len(self.lengths)))

    def take(self, rows: Ints | Bools, lengths: Ints) -> Interactions:
        """Select rows, grouped by user: ``lengths`` [B] of them belong to each."""
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        texts = None if self.texts is None else self.texts[rows]
        return Interactions(
            offsets, self.item_index[rows], self.rating_index[rows], self.timestamp[rows], texts
        )


@dataclass(frozen=True, eq=False)
class Windows:
    """Interactions that a model reads, of B users: oldest first, right-padded with zeros."""

    item_index: Indices  # [B, P]
    rating_index: RatingIndices  # [B, P]
    timestamp: Ints  # [B, P]
    length: Ints  # [B]
    complete: Bools | None = None  # [B] whether the whole history is shown; None if that is unknown
    event_number: Ints | None = (
        None  # [B, P] number that identifies an interaction, 0 for none; None if no interaction has one
    )
    texts: EventTexts | None = None  # [B, P] embeddings of events' texts; None if a model reads none

    def __len__(self) -> int:
        return len(self.length)

    @property
    def known_complete(self) -> Bools:
        """True where the whole history is known to be shown, [B]."""
        return np.zeros(len(self), dtype=np.bool_) if self.complete is None else self.complete

    @property
    def mask(self) -> Bools:
        """True at interactions, False at padding, [B, P]."""
        return np.arange(self.item_index.shape[1]) < self.length[:, None]

    def __getitem__(self, rows: slice | Ints | Bools) -> Windows:
        complete = None if self.complete is None else self.complete[rows]
        number = None if self.event_number is None else self.event_number[rows]
        columns = (self.item_index[rows], self.rating_index[rows], self.timestamp[rows], self.length[rows])
        return Windows(*columns, complete, number, self.texts and self.texts[rows])

    def columns(self, start: int, stop: int) -> Windows:
        """Slice the positions ``start`` to ``stop`` of each window: at most [B, stop - start]."""
        length = np.clip(self.length - start, 0, stop - start)
        return self._at(slice(start, stop), length)

    def where(self, kept: Bools) -> Windows:
        """Select the interactions at which ``kept`` [B, P] is true, in their order."""
        kept = kept & self.mask
        length = kept.sum(axis=1)
        order = np.argsort(~kept, axis=1, kind="stable")
        there = np.arange(order.shape[1]) < length[:, None]

        def moved(column: np.ndarray) -> np.ndarray:
            return np.where(there, np.take_along_axis(column, order, axis=1), 0).astype(column.dtype)

        number = None if self.event_number is None else moved(self.event_number)
        columns = (moved(self.item_index), moved(self.rating_index), moved(self.timestamp))
        texts = self.texts and EventTexts(moved(self.texts.row), self.texts.vectors)
        return Windows(*columns, length, None, number, texts).trimmed()

    def trimmed(self) -> Windows:
        """Drop the columns that are padding in all windows; at least one column remains."""
        width = max(int(self.length.max(initial=0)), 1)
        return self._at(slice(width), self.length, self.complete)

    def _at(self, places: slice, length: Ints, complete: Bools | None = None) -> Windows:
        number = None if self.event_number is None else self.event_number[:, places]
        columns = (self.item_index[:, places], self.rating_index[:, places], self.timestamp[:, places])
        return Windows(*columns, length, complete, number, self.texts and self.texts[:, places])

    def interactions(self) -> Interactions:
        """Convert to flat columns, one group per window."""
        mask = self.mask
        offsets = np.concatenate([[0], np.cumsum(self.length)]).astype(np.int64)
        texts = self.texts and self.texts[mask]
        return Interactions(
            offsets, self.item_index[mask], self.rating_index[mask], self.timestamp[mask], texts
        )


@dataclass(frozen=True, eq=False)
class Preferences:
    """Labels of B users as ranked category indices, best (or worst) first; -1 at empty ranks."""

    liked: Ints  # [B, 3]
    disliked: Ints  # [B, 3]

    def __len__(self) -> int:
        return len(self.liked)

    def __getitem__(self, rows: slice | Ints | Bools) -> Preferences:
        return Preferences(self.liked[rows], self.disliked[rows])

    def membership(self, labels: int) -> Bools:
        """Convert to masks of liked and of disliked labels, [B, L, 2]."""
        return np.stack([membership(half, labels) for half in (self.liked, self.disliked)], axis=-1)


def membership(ranked: Ints, labels: int) -> Bools:
    """Convert ranked labels [B, K], -1 at empty ranks, to a mask of labels per user, [B, L]."""
    members: Bools = (ranked[:, :, None] == np.arange(labels)).any(axis=1)
    return members


@dataclass(frozen=True)
class LeftOut:
    """Numbers of users of a split that are not evaluated, by reason."""

    seen_whole: int = 0
    """Users whose history is no longer than the window."""
    too_few_outside: int = 0
    """Users with fewer interactions outside the window, or after it, than a label needs."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Evaluation examples: the windows of B users, and the true labels, which only the evaluator reads."""

    user_index: Ints  # [B] into the dataset's users
    windows: Windows
    truth: Preferences
    left_out: LeftOut = LeftOut()

    def __len__(self) -> int:
        return len(self.user_index)
