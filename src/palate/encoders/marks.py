"""Features of the label rule applied to a window as if it were the full history: inputs of the decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.encoders.estimates import PopulationInputs, Seen, labels_of_all, scores_of_all, thresholds_of

if TYPE_CHECKING:
    from palate.schema import Doubles

FARTHEST = 2.0
"""Largest distance from a threshold, in units of the spread."""


@torch.no_grad()
def window_marks(seen: Seen, population: PopulationInputs) -> Doubles:
    """Compute features of the label rule applied to the windows alone.

    Args:
        seen: Statistics of B users over L categories.
        population: The users' population, or one per user.

    Returns:
        Four features per category, for liked and disliked, [B, L, 2, 4]: whether the rule assigns the label and, if
        so, the distance of its score from the threshold and the logarithm of its count; and whether the count is too
        small for a label.
    """
    like, dislike = thresholds_of(seen, population)
    named = (labels_of_all(seen, population, like, dislike) >= 0).double()  # [B, L, 2]
    score = scores_of_all(seen, population)
    beyond = torch.stack([score - like, dislike - score], dim=-1).clamp(0, FARTHEST)
    often = torch.log1p(seen.count.double())[..., None].expand_as(named) / 3
    rare = (seen.count < population.min_count).double()[..., None].expand_as(named)
    return np.asarray(torch.stack([named, named * beyond, named * often, rare], dim=-1).cpu().numpy())
