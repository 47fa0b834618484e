"""Sinusoidal features of token positions in an answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PERIODS = (8, 64, 512)
"""Periods of the sinusoids that encode positions, in tokens."""
FIRST = 0.7
"""Value of all features at position 0, instead of cosine 1 and sine 0."""


def waves(places: Tensor, periods: int) -> Tensor:
    """Compute the cosine and the sine of positions [...] for the first periods, [..., 2 * periods]."""
    turns = places[..., None] / torch.tensor(PERIODS[:periods], device=places.device)
    angles = torch.stack([turns, turns - 0.25], dim=-1) * (2 * math.pi)
    return angles.cos().flatten(-2)


def place_features(number: int, periods: int) -> Tensor:
    """Return the features of the positions 0 to ``number`` - 1, [number, 2 * periods]."""
    features = waves(torch.arange(number), periods)
    features[:1] = FIRST
    return features
