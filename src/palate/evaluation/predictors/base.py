"""Protocols of predictors: answers, and optionally probabilities and expected F1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from palate.schema import Bools, Doubles, Ints, Truth, Windows
from palate.tasks.targets import expected_f1

if TYPE_CHECKING:
    import torch


class Predictor(Protocol):
    """Predicts answers about users from their windows; it never receives the true labels."""

    @property
    def name(self) -> str:
        """Name in tables and files."""

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer for each of B users from their windows [B, P]."""


class OnDevice(Protocol):
    """A model with a device."""

    @property
    def device(self) -> torch.device:
        """Device of the model."""


class ModelPredictor(Predictor, Protocol):
    """A predictor that uses a trained model."""

    @property
    def model(self) -> OnDevice:
        """The trained model."""


@runtime_checkable
class LearnsTruth(Protocol):
    """A predictor that is fitted to training users' labels, and can be refitted to another truth."""

    def with_truth(self, truth: Truth) -> Predictor:
        """Return the predictor fitted to labels of this truth."""


@runtime_checkable
class GivesProbabilities(Protocol):
    """A predictor that can give probabilities of labels."""

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles | None:
        """Predict the probabilities that B users like and dislike each label, [B, L, 2]; None if unavailable."""


@runtime_checkable
class ExpectsF1(Protocol):
    """A predictor with a better estimate of its answers' F1 than its probabilities give."""

    def expected_f1(self, windows: Windows, named: Bools, most: int) -> Doubles | None:
        """Estimate the F1 of liked labels named by B answers [B, L], with at most ``most`` true ones; [B], or None."""


def expected_f1_of(
    predictor: Predictor, windows: Windows, named: Bools, chances: Doubles, most: int
) -> Doubles:
    """Estimate the F1 of the liked labels in a predictor's B answers, [B].

    Args:
        predictor: Predictor that gave the answers.
        windows: Windows of the B users.
        named: Liked labels named by the answers, [B, L].
        chances: Predicted probabilities that each label is liked, [B, L].
        most: Maximum number of true labels per user.
    """
    found = predictor.expected_f1(windows, named, most) if isinstance(predictor, ExpectsF1) else None
    return expected_f1(chances, named, most) if found is None else found


def probabilities_of(predictor: Predictor, user_index: Ints, windows: Windows) -> Doubles | None:
    """Return a predictor's probabilities for B users, [B, L, 2]; None if it has none."""
    if not isinstance(predictor, GivesProbabilities):
        return None
    return predictor.probabilities(user_index, windows)


def fitted_to(predictor: Predictor, truth: Truth) -> Predictor:
    """Return the predictor fitted to labels of this truth; unchanged if it is not fitted to labels."""
    return predictor.with_truth(truth) if isinstance(predictor, LearnsTruth) else predictor
