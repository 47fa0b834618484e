"""How far a training has come, in steps or in minutes, and the learning rate that goes with it."""

from __future__ import annotations

import math
import time

from palate.config.recipe import TrainSettings

LOWEST_RATE = 0.02
"""Where a falling schedule ends, as a share of the peak rate."""


class Clock:
    """Progress from 0 to 1: by steps, or by training time where ``max_minutes`` limits it and runs out earlier.

    Without a time limit, or while it does not bind, everything that follows the clock is a function of the step
    alone, so a resumed training is the same training.
    """

    def __init__(self, settings: TrainSettings, seconds: float = 0.0) -> None:
        self.settings = settings
        self._before = seconds
        self._started = time.monotonic()

    def restart(self, seconds: float) -> None:
        """Go on from ``seconds`` of training that an earlier process has spent."""
        self._before, self._started = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, over all processes that worked on it."""
        return self._before + time.monotonic() - self._started

    def progress(self, step: int) -> float:
        """Share of the training that is done when ``step`` steps are."""
        by_steps = step / self.settings.max_steps
        limit = self.settings.max_minutes
        return by_steps if limit is None else max(by_steps, self.seconds / (60 * limit))

    def alone(self, step: int) -> bool:
        """Whether the user encoder is still trained without the backbone at ``step``."""
        return self.progress(step) < self.settings.auxiliary_only_ratio

    def rate(self, step: int) -> float:
        """The learning rate at ``step`` as a share of its peak: a rise, then the recipe's schedule."""
        return self._rate(self.progress(step))

    def backbone_rate(self, step: int) -> float:
        """The same for the backbone, whose training begins when the user encoder's time alone is over."""
        alone = self.settings.auxiliary_only_ratio
        return self._rate(max(self.progress(step) - alone, 0.0) / (1.0 - alone))

    def _rate(self, progress: float) -> float:
        progress, warmup = min(progress, 1.0), self.settings.warmup_ratio
        if progress < warmup:
            return max(progress / warmup, 1e-3)
        left = 1.0 - (progress - warmup) / (1.0 - warmup)
        if self.settings.lr_scheduler_type == "constant":
            return 1.0
        falling = left if self.settings.lr_scheduler_type == "linear" else (1 - math.cos(math.pi * left)) / 2
        return LOWEST_RATE + (1 - LOWEST_RATE) * falling
