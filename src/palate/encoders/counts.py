"""Exact integer statistics of histories: number, sum and sum of squares of the ratings by category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from palate.errors import MismatchError
from palate.items.categories import MEMBER

if TYPE_CHECKING:
    from palate.schema import Ints
    from palate.tasks.statistics import CategoryStatistics


@dataclass(frozen=True, eq=False)
class CategoryCounts:
    """Statistics of B users by category, all int64, so that adding, removing and merging are exact in any order.

    Ratings are in steps of the scale (:func:`palate.data.population.rating_steps`).
    """

    count: Tensor  # [B, L] interactions, in units of 1/MEMBER
    total: Tensor  # [B, L] sum of their ratings, in units of 1/MEMBER
    squares: Tensor  # [B, L] sum of their squared ratings, in units of 1/MEMBER
    length: Tensor  # [B] interactions of any category
    whole: Tensor  # [B] sum of their ratings

    def __len__(self) -> int:
        return len(self.length)

    def __getitem__(self, rows: slice | Tensor) -> CategoryCounts:
        return CategoryCounts(*(column[rows] for column in self._columns))

    @property
    def _columns(self) -> list[Tensor]:
        return [getattr(self, column.name) for column in fields(self)]

    @classmethod
    def joined(cls, counts: Sequence[CategoryCounts]) -> CategoryCounts:
        """Join counts of the same categories into one batch."""
        return cls(*map(torch.cat, zip(*(one._columns for one in counts), strict=True)))

    @classmethod
    def empty(cls, users: int, categories: int, device: torch.device | str = "cpu") -> CategoryCounts:
        """Create the counts of users without a history."""
        of_category = torch.zeros(users, categories, dtype=torch.int64, device=device)
        of_user = torch.zeros(users, dtype=torch.int64, device=device)
        return cls(of_category, of_category, of_category, of_user, of_user)

    @classmethod
    def of_events(cls, membership: Tensor, item: Tensor, steps: Tensor, mask: Tensor) -> CategoryCounts:
        """Count the events of B users.

        Args:
            membership: Weight of each category in each item, in units of 1/MEMBER, [N, L].
            item: Items, as rows of ``membership``, [B, P].
            steps: Ratings in steps of the scale, [B, P].
            mask: True at events, False at padding, [B, P].

        Returns:
            The counts, exact below 2^53.
        """
        there, rating = mask.double(), steps.double() * mask
        weights = torch.stack([there, rating, rating * steps], dim=1)  # [B, 3, P]
        by_item = weights.new_zeros(*weights.shape[:2], len(membership))  # [B, 3, N]
        by_item.scatter_add_(2, item[:, None].expand_as(weights), weights)
        sums = (by_item @ membership.double()).round().long()  # [B, 3, L]
        return cls(sums[:, 0], sums[:, 1], sums[:, 2], mask.sum(dim=1), (steps * mask).sum(dim=1).long())

    @classmethod
    def of_statistics(cls, statistics: CategoryStatistics, squares: Ints, step: float) -> CategoryCounts:
        """Convert the statistics of B users over a catalogue.

        Args:
            statistics: Counts and sums of ratings.
            squares: Sums of squared ratings in steps, [B, L].
            step: Unit of the rating scale.

        Returns:
            Their counts.
        """
        totals = (
            torch.from_numpy(part / step).round().long() for part in (statistics.total, statistics.whole)
        )
        total, whole = totals
        count, length = torch.from_numpy(statistics.count), torch.from_numpy(statistics.length)
        return cls(count * MEMBER, total * MEMBER, torch.from_numpy(squares) * MEMBER, length, whole)

    def merge(self, other: CategoryCounts) -> CategoryCounts:
        """Add the counts of other events of the same users."""
        return CategoryCounts(*(mine + its for mine, its in zip(self._columns, other._columns, strict=True)))

    def remove(self, other: CategoryCounts) -> CategoryCounts:
        """Remove the counts of events that these contain; raises :class:`MismatchError` if they do not."""
        left = CategoryCounts(*(mine - its for mine, its in zip(self._columns, other._columns, strict=True)))
        if bool((left.count < 0).any()) or bool((left.length < 0).any()) or bool((left.squares < 0).any()):
            raise MismatchError(
                "the counts do not contain the events to remove; rebuild them from the stored events"
            )
        return left

    def extended(self, categories: int) -> CategoryCounts:
        """Append categories without events, up to a total of ``categories``."""
        more = (0, categories - self.count.shape[1])
        count, total, squares = (
            functional.pad(part, more) for part in (self.count, self.total, self.squares)
        )
        return CategoryCounts(count, total, squares, self.length, self.whole)

    def to(self, device: torch.device | str) -> CategoryCounts:
        """Move the counts to a device."""
        return CategoryCounts(*(column.to(device) for column in self._columns))
