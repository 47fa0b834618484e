"""Label selection with the highest expected F1 under given label probabilities."""

from __future__ import annotations

import numpy as np

from palate.schema import Bools, Doubles, Ints, Preferences

RARENESS = 0.3
"""Exponent of the preference for rare labels, whose F1 counts as much as that of frequent ones."""
ROUNDS = 5
"""Iterations between estimating the achievable F1 and selecting labels by it."""


def best_answers(chances: Doubles, frequency: Doubles, most: int) -> Preferences:
    """Select the labels of B users with the highest expected F1.

    A label is selected as liked or disliked, whichever is likelier, if its probability is above half the achievable
    F1 (Lipton et al. 2014, "Thresholding classifiers to maximize F1 score", theorem 1), which is estimated from the
    probabilities of all B users.

    Args:
        chances: Probabilities that a label is liked and disliked, [B, L, 2].
        frequency: Share of users with each label, liked and disliked, [2, L].
        most: Maximum number of liked, and of disliked, labels.

    Returns:
        The selected labels, likeliest first.
    """
    liked, disliked = chances[..., 0], chances[..., 1]
    return Preferences(
        liked=_best_half(np.where(liked >= disliked, liked, 0.0), frequency[0], most),
        disliked=_best_half(np.where(liked < disliked, disliked, 0.0), frequency[1], most),
    )


def expected_f1(chances: Doubles, named: Bools, most: int) -> Doubles:
    """Compute the expected F1 of B answers, [B], under independent labels.

    The F1 of an empty answer about a user without labels is 1.

    Args:
        chances: Probabilities of the labels, [B, L].
        named: Mask of the labels in the answers, [B, L].
        most: Maximum number of true labels of a user.
    """
    size = named.sum(axis=1)
    expected = np.where(size == 0, (1 - chances).prod(axis=1), 0.0)
    for place in range(int(size.max(initial=0))):
        one = np.argsort(~named, axis=1, kind="stable")[:, place]  # the next label in the answer
        rows = size > place
        others = _number_of_others(chances[rows], one[rows], most)  # [b, most]
        total = size[rows, None] + np.arange(
            1, most + 1
        )  # number of answered plus true labels, including this one
        expected[rows] += 2 * chances[rows, one[rows]] * (others / total).sum(axis=1)
    return np.asarray(expected)


def answer_f1(truth: Bools, named: Bools) -> Doubles:
    """Compute the F1 of each user's answer, [B], from masks [B, L]; 1 if both are empty."""
    hits, both = (truth & named).sum(axis=1), truth.sum(axis=1) + named.sum(axis=1)
    return np.where(both > 0, 2 * hits / np.maximum(both, 1), 1.0)


def _number_of_others(chances: Doubles, left_out: Ints, most: int) -> Doubles:
    """Compute the distribution of the number of true labels other than one, [B, most]; the last means "or more"."""
    others = chances.copy()
    others[np.arange(len(others)), left_out] = 0.0
    number = np.zeros((len(others), most))
    number[:, 0] = 1.0
    for chance in others.T:
        more = number * chance[:, None]
        number -= more
        number[:, 1:] += more[:, :-1]
        number[:, -1] += more[:, -1]
    return number


def likeliest(chances: Doubles, frequency: Doubles, rareness: float, most: int) -> Ints:
    """Rank the ``most`` most probable labels of ``chances`` [B, L], with a preference for low ``frequency`` [L]."""
    return np.argsort(-chances / (frequency + 0.01) ** rareness, axis=1, kind="stable")[:, :most]


def only(rank: Ints, named: Bools, most: int) -> Ints:
    """Move the selected labels of a ranking [B, at most ``most``] to the front, [B, most]; -1 at empty ranks."""
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
