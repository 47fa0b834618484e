"""Training curve: loss and dev score by step."""

from __future__ import annotations

from palate.system.records import Frozen


class LossPoint(Frozen):
    """Mean loss over the steps since the previous point."""

    step: int
    loss: float


class DevPoint(Frozen):
    """An evaluation on the dev users."""

    step: int
    minutes: float
    """Training time until this step."""
    f1: float | None
    """Liked F1; None while only the user encoder is trained."""
    norms: dict[str, float]
    """Mean norm of token embeddings, of task-prompt vectors and of user-prompt vectors."""


class Curve(Frozen):
    """Contents of a run's ``logs/curve.json``."""

    seconds: float
    """Training time, summed over resumed processes."""
    losses: tuple[LossPoint, ...]
    scores: tuple[DevPoint, ...]

    @property
    def steps(self) -> int:
        """Number of optimizer steps at the last dev score."""
        return self.scores[-1].step if self.scores else 0
