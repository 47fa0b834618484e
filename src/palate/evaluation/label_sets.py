"""Predictions as boolean label sets, for scores and tests per user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palate.schema import Bools

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation, Prediction

HALVES = ("liked", "disliked")


def predictions_by_predictor(evaluation: Evaluation) -> dict[str, list[Prediction]]:
    """Group an evaluation's predictions by predictor name; each group is in the order of the users."""
    found: dict[str, list[Prediction]] = {}
    for one in evaluation.predictions:
        found.setdefault(one.predictor, []).append(one)
    return found


def true_sets(predictions: Sequence[Prediction], labels: Sequence[str]) -> Bools:
    """Return the true liked and disliked labels of B users, [B, L, 2]."""
    return _sets(predictions, labels, "truth_")


def named_sets(predictions: Sequence[Prediction], labels: Sequence[str]) -> Bools:
    """Return the predicted liked and disliked labels of B answers, [B, L, 2]."""
    return _sets(predictions, labels, "")


def _sets(predictions: Sequence[Prediction], labels: Sequence[str], which: str) -> Bools:
    place = {label: at for at, label in enumerate(labels)}
    sets = np.zeros((len(predictions), len(place), 2), dtype=np.bool_)
    for row, one in enumerate(predictions):
        for at, half in enumerate(HALVES):
            sets[row, [place[label] for label in getattr(one, which + half)], at] = True
    return sets
