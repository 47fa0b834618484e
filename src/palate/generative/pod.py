"""POD (Li et al., 2023): learned prompt vectors per family, and batches of one family in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from palate.config.generative import PODSettings

if TYPE_CHECKING:
    from palate.config.generative import AnyGenerativeSettings, Family


class TaskVectors(nn.Module):
    """Learned prompt vectors of each family; empty for P5.

    Args:
        settings: The families, and their number of vectors.
        size: Length E of a vector.
    """

    nothing: Tensor  # [0, E] of a family without vectors

    def __init__(self, settings: AnyGenerativeSettings, size: int) -> None:
        super().__init__()
        count = settings.prompt_vectors if isinstance(settings, PODSettings) else 0
        self.of_family = nn.ParameterDict(
            {family: nn.Parameter(torch.randn(count, size) * 0.05) for family in settings.families if count}
        )
        self.register_buffer("nothing", torch.zeros(0, size), persistent=False)

    def forward(self, family: Family) -> Tensor:
        """Return the vectors of a family, [K, E]."""
        if family in self.of_family:
            vectors: Tensor = self.of_family[family]
            return vectors
        return self.nothing


def family_at(settings: AnyGenerativeSettings, step: int, rng: np.random.Generator) -> Family:
    """Return the family of a step's batch: in POD they take turns, in P5 they are drawn by their proportions."""
    families = list(settings.families)
    if isinstance(settings, PODSettings):
        return families[step % len(families)]
    shares = np.array([settings.families[family] for family in families])
    return families[int(rng.choice(len(families), p=shares / shares.sum()))]
