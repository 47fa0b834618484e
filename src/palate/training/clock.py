"""Progress of a training, in steps or minutes, and its learning rate schedule."""

from __future__ import annotations

import math
import time

from palate.config.recipe import TrainSettings

LOWEST_RATE = 0.02
"""Final learning rate of a decaying schedule, as a fraction of the peak."""


class Clock:
    """Training progress from 0 to 1, by steps, or by time if ``max_minutes`` is reached earlier.

    Without a time limit, or while it is not binding, everything that depends on the clock is a function of the step
    only, so that a resumed training is identical.
    """

    def __init__(self, settings: TrainSettings, seconds: float = 0.0) -> None:
        self.settings = settings
        self._before = seconds
        self._started = time.monotonic()

    def restart(self, seconds: float) -> None:
        """Continue from ``seconds`` of training by earlier processes."""
        self._before, self._started = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far in seconds, including earlier processes."""
        return self._before + time.monotonic() - self._started

    def progress(self, step: int) -> float:
        """Return the fraction of the training that is done after ``step`` steps."""
        by_steps = step / self.settings.max_steps
        limit = self.settings.max_minutes
        return by_steps if limit is None else max(by_steps, self.seconds / (60 * limit))

    def alone(self, step: int) -> bool:
        """Return whether the user encoder is trained without the backbone at ``step``."""
        return self.progress(step) < self.settings.auxiliary_only_ratio

    def rate(self, step: int) -> float:
        """Return the learning rate at ``step`` as a fraction of its peak: warmup, then the recipe's schedule."""
        return self._rate(self.progress(step))

    def backbone_rate(self, step: int) -> float:
        """Return the backbone's rate at ``step`` likewise; its training starts after the auxiliary-only phase."""
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
