"""Protocol of predictors."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from palate.schema import Ints, Truth, Windows


class Predictor(Protocol):
    """Predicts answers about users from their windows; the true labels are never passed."""

    @property
    def name(self) -> str:
        """Name in tables and files."""

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer for each of B users from their windows [B, P]."""


@runtime_checkable
class LearnsTruth(Protocol):
    """A predictor that learns from training users' labels, and can learn those of another truth."""

    def with_truth(self, truth: Truth) -> Predictor:
        """Return the predictor that learns from labels of this truth."""


def fitted_to(predictor: Predictor, truth: Truth) -> Predictor:
    """Return the predictor that learns from labels of this truth; one that learns none is returned as it is."""
    return predictor.with_truth(truth) if isinstance(predictor, LearnsTruth) else predictor
