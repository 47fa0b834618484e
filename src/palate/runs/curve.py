"""The course of a training: its loss and its dev score by step."""

from __future__ import annotations

from palate.system.records import Frozen


class LossPoint(Frozen):
    """The mean loss of the steps since the last one."""

    step: int
    loss: float


class DevPoint(Frozen):
    """An evaluation on the dev users."""

    step: int
    minutes: float
    """Training time so far."""
    f1: float | None
    """Liked F1; None while the user encoder is trained alone."""
    norms: dict[str, float]
    """Mean length of tokens, of the task prompt's and of the user prompts' vectors."""


class Curve(Frozen):
    """What ``logs/curve.json`` of a run holds."""

    seconds: float
    """Training time of all processes that worked on it."""
    losses: tuple[LossPoint, ...]
    scores: tuple[DevPoint, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps that were taken."""
        return self.scores[-1].step if self.scores else 0
