"""Positions along an answer as sinusoidal features that a small backbone can compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PERIODS = (8, 64, 512)
"""Periods of the sinusoids that encode positions, in tokens."""
FIRST = 0.7
"""Value of all features of place 0: who counts from a token gets 1 for all of them there."""


def waves(places: Tensor, periods: int) -> Tensor:
    """Compute the cosine and the sine of places [...] for the first periods, [..., 2 * periods]."""
    turns = places[..., None] / torch.tensor(PERIODS[:periods], device=places.device)
    angles = torch.stack([turns, turns - 0.25], dim=-1) * (2 * math.pi)
    return angles.cos().flatten(-2)


def place_features(number: int, periods: int) -> Tensor:
    """Return the features of the places 0 to ``number`` - 1, [number, 2 * periods]."""
    features = waves(torch.arange(number), periods)
    features[:1] = FIRST
    return features
