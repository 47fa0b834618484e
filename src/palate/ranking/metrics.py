"""Metrics of ranks: hit rate, recall, NDCG and MRR per user, coverage and novelty of lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from palate.schema import Bools, Doubles, Floats, Indices, Ints

CUTOFFS = (5, 10, 20)
"""Lengths of the lists that are scored."""
LISTED = 10
"""Length of the lists whose coverage and novelty are told."""
METRICS = (*(f"{name}@{k}" for name in ("hr", "recall", "ndcg") for k in CUTOFFS), "mrr")
"""Names of the metrics of :func:`rank_metrics`, in its order."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Places of B users' targets among the ranked items.

    Items with the score of a target share its places in any order, each as likely: metrics are expectations over the
    order of ties. A ranker that scores all items alike thus finds what a random order finds, whatever the items' ids.
    """

    above: Ints  # [B, T] ranked items with a higher score; -1 where a user has fewer targets
    tied: Ints  # [B, T] ranked items with the same score, the target included

    @property
    def wanted(self) -> Bools:
        """Where there is a target, [B, T]."""
        return self.above >= 0


def target_ranks(scores: Floats, target_scores: Floats, wanted: Bools) -> Ranks:
    """Find the places of targets among the ranked items.

    Args:
        scores: Scores of the ranked items, targets included, -inf where an item is left out, [B, I].
        target_scores: Scores of the targets, [B, T].
        wanted: Where there is a target, [B, T].
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
    """Compute the metrics of B users, which are averaged over users.

    A hit rate is 1 if any target is in the list, recall the share of the targets that are; NDCG has gains of 0 and 1
    and the ideal of as many targets as fit into the list; MRR is that of the first target, however far down.

    Returns:
        The metrics in the order of :data:`METRICS`, [B, M].
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
    """Where the first target of each of B users may stand: ``targets`` of ``tied`` places after ``above`` items."""

    above: Ints  # [B]
    tied: Ints  # [B]
    targets: Ints  # [B]

    @classmethod
    def of(cls, above: Ints, tied: Ints) -> _FirstPlaces:
        best = above.min(axis=1)
        in_best = above == best[:, None]
        return cls(best, np.where(in_best, tied, 0).max(axis=1), in_best.sum(axis=1))

    def within(self, places: int) -> Doubles:
        """Return the chance that the first target is among the first ``places``, [B]."""
        tried = np.clip(places - self.above, 0, self.tied)
        missed = np.ones(len(tried))
        for target in range(
            int(self.targets.max(initial=0))
        ):  # drawn one after the other without replacement
            factor = np.maximum(self.tied - tried - target, 0) / np.maximum(self.tied - target, 1)
            missed *= np.where(target < self.targets, factor, 1.0)
        return 1 - missed

    def reciprocal(self) -> Doubles:
        """Return the expected reciprocal of the first target's place, [B]."""
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
    """Return the best items of B users, best first; which of equal scores comes first is left open.

    Args:
        scores: Scores, -inf where an item is left out, [B, I].
        count: How many to return, K.

    Returns:
        Items, [B, K]; -1 where fewer are ranked.
    """
    best = torch.from_numpy(scores).topk(min(count, scores.shape[1]), dim=1)
    return np.where(np.isfinite(best.values.numpy()), best.indices.numpy(), -1).astype(np.int32)


def coverage(lists: Indices, items: int) -> float:
    """Compute the share of the items that are in anyone's list [B, K]."""
    return len(np.unique(lists[lists >= 0])) / items


def novelty(lists: Indices, users_of_item: Ints, users: int) -> float:
    """Compute the mean self-information of the listed items in bits, -log2 of the share of users who have one.

    Args:
        lists: Items of B users, [B, K]; -1 where a list is shorter.
        users_of_item: Number of training users with each item, [I]; an item of nobody's counts as of half a user's.
        users: Number of training users.

    Returns:
        The mean over all listed items.
    """
    bits = -np.log2(np.maximum(users_of_item, 0.5) / max(users, 1))
    return float(bits[lists[lists >= 0]].mean())
