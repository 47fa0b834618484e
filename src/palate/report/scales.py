"""Axes of charts: scales from values to pixels, and tick positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AxisScale:
    """Maps values from ``low`` to ``high`` to pixels from ``start`` to ``end``, linearly or logarithmically."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Compute the position of a value in pixels, rounded to 0.1."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def round_step(span: float, steps: int) -> float:
    """Return the smallest step of 1, 2 or 5 times a power of ten that covers ``span`` in at most ``steps`` steps."""
    power = 10.0 ** math.floor(math.log10(span / steps))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power * steps >= span * (1 - 1e-9))


def linear_ticks(low: float, high: float, steps: int = 5) -> list[float]:
    """Return evenly spaced round numbers that cover ``low`` to ``high``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = round_step(high - low, steps)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten that cover positive ``low`` to ``high``; only powers for a wide range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [float(f"{factor * 10.0**power:.10g}") for power in powers for factor in factors]
    first = max((tick for tick in ticks if tick <= low), default=ticks[0])
    last = min((tick for tick in ticks if tick >= high), default=ticks[-1])
    return [tick for tick in ticks if first <= tick <= last]


def thinned(ticks: Sequence[float], scale: AxisScale, gap: float) -> list[float]:
    """Select ticks at least ``gap`` pixels apart; the last one is always kept."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or abs(scale(tick) - scale(kept[-1])) >= gap:
            kept.append(tick)
    return kept[::-1]
