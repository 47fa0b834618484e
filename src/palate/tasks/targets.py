"""Which labels to name when the F1 of what is named counts: the answer that is best by the chances of the labels."""

from __future__ import annotations

import numpy as np

from palate.schema import Bools, Doubles, Ints, Preferences

RARENESS = 0.3
"""How much sooner a rare label is named: its F1 counts by itself, and there is less of it to lose."""
ROUNDS = 5
"""Of estimating the F1 in reach from what is named, and naming by it."""


def best_answers(chances: Doubles, frequency: Doubles, most: int) -> Preferences:
    """The answers of B users that promise the highest F1, at most ``most`` labels in each half, likeliest first.

    ``chances`` [B, L, 2] are the probabilities that a label is liked and disliked, ``frequency`` [2, L] how common
    each is. A label is worth naming where its chance is above half the F1 that is in reach (Lipton et al. 2014,
    "Thresholding classifiers to maximize F1 score", theorem 1); what is in reach is what the chances of all B users
    promise. A label is named in the half that is likelier.
    """
    liked, disliked = chances[..., 0], chances[..., 1]
    return Preferences(
        liked=_best_half(np.where(liked >= disliked, liked, 0.0), frequency[0], most),
        disliked=_best_half(np.where(liked < disliked, disliked, 0.0), frequency[1], most),
    )


def likeliest(chances: Doubles, frequency: Doubles, rareness: float, most: int) -> Ints:
    """The ``most`` labels of highest chance [B, L], likeliest first, the rare ones sooner by their frequency [L]."""
    return np.argsort(-chances / (frequency + 0.01) ** rareness, axis=1, kind="stable")[:, :most]


def only(rank: Ints, named: Bools, most: int) -> Ints:
    """The ranked labels [B, at most ``most``] that are named, moved to the front, [B, most]; -1 for the others."""
    order = np.argsort(~named, axis=1, kind="stable")
    answers = np.take_along_axis(np.where(named, rank, -1), order, axis=1)
    return np.pad(answers, ((0, 0), (0, most - answers.shape[1])), constant_values=-1)


def _best_half(chances: Doubles, frequency: Doubles, most: int) -> Ints:
    rank = likeliest(chances, frequency, RARENESS, most)
    ranked = np.take_along_axis(chances, rank, axis=1)
    named: Bools = ranked > 0
    for _ in range(ROUNDS):
        in_reach = 2 * ranked[named].sum() / max(chances.sum() + named.sum(), 1e-9)
        named = ranked > in_reach / 2
    return only(rank, named, most)
