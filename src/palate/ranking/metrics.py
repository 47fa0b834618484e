"""Ranking metrics: hit rate, recall, NDCG and MRR per user, coverage and novelty of lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from palate.schema import Bools, Doubles, Floats, Indices, Ints

CUTOFFS = (5, 10, 20)
"""Cutoffs k of the metrics."""
LISTED = 10
"""Length of the lists for coverage and novelty."""
METRICS = (*(f"{name}@{k}" for name in ("hr", "recall", "ndcg") for k in CUTOFFS), "mrr")
"""Names of the metrics, in the order of :func:`rank_metrics`."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of B users' targets among the ranked items.

    Ties are broken at random: metrics are expectations over all orders of items with equal scores. A ranker that gives
    all items the same score thus performs as a random order, whatever the item indices.
    """

    above: Ints  # [B, T] ranked items with a higher score; -1 is padding
    tied: Ints  # [B, T] ranked items with the same score, the target included

    @property
    def wanted(self) -> Bools:
        """Mask of the targets, [B, T]."""
        return self.above >= 0


def target_ranks(scores: Floats, target_scores: Floats, wanted: Bools) -> Ranks:
    """Compute the ranks of targets among the ranked items.

    Args:
        scores: Scores of the ranked items, targets included, [B, I]; -inf excludes an item.
        target_scores: Scores of the targets, [B, T].
        wanted: Mask of the targets, [B, T].
    """
    above = np.full(wanted.shape, -1, dtype=np.int64)
    tied = np.zeros(wanted.shape, dtype=np.int64)
    for column in range(wanted.shape[1]):
        rows = np.flatnonzero(wanted[:, column])
        of_target = target_scores[rows, column][:, None]
        above[rows, column] = (scores[rows] > of_target).sum(axis=1)
        tied[rows, column] = (scores[rows] == of_target).sum(axis=1)
    return Ranks(above, tied)


def rank_metrics(ranks: Ranks) -> Doubles:
    """Compute the metrics per user, [B, M].

    Hit rate is 1 if any target is in the list, recall the share of targets in the list. NDCG has binary gains and is
    normalised by the ideal list. MRR is the reciprocal rank of the first target, without a cutoff.

    Returns:
        Metrics in the order of :data:`METRICS`, [B, M].
    """
    wanted, tied = ranks.wanted, np.maximum(ranks.tied, 1)
    above = np.where(wanted, ranks.above, np.iinfo(np.int32).max)
    number = wanted.sum(axis=1)
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max(CUTOFFS) + 2)))])
    first = _FirstPlaces.of(above, tied)
    recall = [(np.clip(k - above, 0, tied) / tied).sum(axis=1) / number for k in CUTOFFS]
    ndcg = [
        ((discounts[np.minimum(above + tied, k)] - discounts[np.minimum(above, k)]) / tied).sum(axis=1)
        / discounts[np.minimum(number, k)]
        for k in CUTOFFS
    ]
    return np.stack([*(first.within(k) for k in CUTOFFS), *recall, *ndcg, first.reciprocal()], axis=1)


@dataclass(frozen=True, eq=False)
class _FirstPlaces:
    """Distribution of the first target's rank of B users: ``targets`` among ``tied`` places after ``above`` items."""

    above: Ints  # [B]
    tied: Ints  # [B]
    targets: Ints  # [B]

    @classmethod
    def of(cls, above: Ints, tied: Ints) -> _FirstPlaces:
        best = above.min(axis=1)
        in_best = above == best[:, None]
        return cls(best, np.where(in_best, tied, 0).max(axis=1), in_best.sum(axis=1))

    def within(self, places: int) -> Doubles:
        """Return the probability that the first target is among the first ``places``, [B]."""
        tried = np.clip(places - self.above, 0, self.tied)
        missed = np.ones(len(tried))
        for target in range(
            int(self.targets.max(initial=0))
        ):  # targets occupy the tied places without replacement
            factor = np.maximum(self.tied - tried - target, 0) / np.maximum(self.tied - target, 1)
            missed *= np.where(target < self.targets, factor, 1.0)
        return 1 - missed

    def reciprocal(self) -> Doubles:
        """Return the expected reciprocal rank of the first target, [B]."""
        last = int((self.above + self.tied).max(initial=0))
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, last + 1))])
        found = (harmonic[self.above + self.tied] - harmonic[self.above]) / self.tied
        for row in np.flatnonzero((self.targets > 1) & (self.tied > 1)):
            one = _FirstPlaces(self.above[[row]], self.tied[[row]], self.targets[[row]])
            chances = [
                float(one.within(int(place))[0]) for place in self.above[row] + np.arange(self.tied[row] + 1)
            ]
            found[row] = (np.diff(chances) / (self.above[row] + np.arange(1, self.tied[row] + 1))).sum()
        return np.asarray(found)


def top_items(scores: Floats, count: int) -> Indices:
    """Return the best items of B users, best first; the order of ties is unspecified.

    Args:
        scores: Item scores, [B, I]; -inf excludes an item.
        count: Maximum number of items, K.

    Returns:
        Item indices, [B, K]; -1 is padding.
    """
    best = torch.from_numpy(scores).topk(min(count, scores.shape[1]), dim=1)
    return np.where(np.isfinite(best.values.numpy()), best.indices.numpy(), -1).astype(np.int32)


def coverage(lists: Indices, items: int) -> float:
    """Compute the share of items that are in at least one list [B, K]."""
    return len(np.unique(lists[lists >= 0])) / items


def novelty(lists: Indices, users_of_item: Ints, users: int) -> float:
    """Compute the mean self-information of the listed items in bits: -log2 of the share of users with an item.

    Args:
        lists: Item indices of B users, [B, K]; -1 is padding.
        users_of_item: Number of training users with each item, [I]; 0 counts as 0.5.
        users: Number of training users.

    Returns:
        Mean over all listed items.
    """
    bits = -np.log2(np.maximum(users_of_item, 0.5) / max(users, 1))
    return float(bits[lists[lists >= 0]].mean())
