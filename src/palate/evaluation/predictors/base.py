"""Protocol of predictors."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from palate.schema import Bools, Doubles, Ints, Truth, Windows
from palate.tasks.targets import expected_f1


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


@runtime_checkable
class GivesProbabilities(Protocol):
    """A predictor that may tell how sure it is."""

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles | None:
        """Predict the probabilities that B users like and dislike each label, [B, L, 2]; None if it has none."""


@runtime_checkable
class ExpectsF1(Protocol):
    """A predictor with probabilities that may know better how good its answers are than these say."""

    def expected_f1(self, windows: Windows, named: Bools, most: int) -> Doubles | None:
        """Estimate the F1 of the liked labels that B answers name [B, L], of at most ``most``; [B], or None."""


def expected_f1_of(
    predictor: Predictor, windows: Windows, named: Bools, chances: Doubles, most: int
) -> Doubles:
    """Estimate the F1 of the liked labels that a predictor's B answers name, [B].

    Args:
        predictor: The predictor.
        windows: Its windows.
        named: Liked labels that its answers name, [B, L].
        chances: Its probabilities that a label is liked, [B, L].
        most: Maximum number of true labels of a user.
    """
    found = predictor.expected_f1(windows, named, most) if isinstance(predictor, ExpectsF1) else None
    return expected_f1(chances, named, most) if found is None else found


def probabilities_of(predictor: Predictor, user_index: Ints, windows: Windows) -> Doubles | None:
    """Return a predictor's probabilities for B users, [B, L, 2]; None if it offers none."""
    if not isinstance(predictor, GivesProbabilities):
        return None
    return predictor.probabilities(user_index, windows)


def fitted_to(predictor: Predictor, truth: Truth) -> Predictor:
    """Return the predictor that learns from labels of this truth; one that learns none is returned as it is."""
    return predictor.with_truth(truth) if isinstance(predictor, LearnsTruth) else predictor
