"""Selection of the best items: exact top-k, and maximal marginal relevance for diverse lists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palate.schema import Floats, Ints

POOL = 10
"""Candidates per place of a diverse list."""


def best_items(scores: Floats, k: int) -> Ints:
    """Return the indices of the k highest scores [I], best first; ties by index, -inf excluded."""
    k = min(k, len(scores))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    places = np.flatnonzero(scores >= least) if np.isfinite(least) else np.flatnonzero(np.isfinite(scores))
    found: Ints = places[np.argsort(-scores[places], kind="stable")][:k]
    return found


def diverse_items(scores: Floats, k: int, diversity: float, similarity: Callable[[Ints], Floats]) -> Ints:
    """Choose items by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Args:
        scores: Scores of all items, [I].
        k: Number of items to choose.
        diversity: Weight of the highest similarity to an already chosen item, from 0 to 1.
        similarity: Function from indices [C] to similarities [C, C], at most about 1.

    Returns:
        Indices of the chosen items, in the order of choice.
    """
    pool = best_items(scores, k * POOL)
    if diversity == 0 or len(pool) <= 1:
        return pool[:k]
    found = scores[pool]
    relevance = (found - found.min()) / max(float(np.ptp(found)), 1e-12)
    alike = similarity(pool)
    chosen = [0]
    while len(chosen) < min(k, len(pool)):
        value = (1 - diversity) * relevance - diversity * alike[:, chosen].max(axis=1)
        value[chosen] = -np.inf
        chosen.append(int(np.argmax(value)))
    return pool[chosen]
