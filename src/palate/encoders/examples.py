"""Precomputed training examples of the universal network: labels, and inputs that do not depend on the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.encoders.estimates import PopulationInputs, Reading

if TYPE_CHECKING:
    from palate.encoders.counts import CategoryCounts
    from palate.encoders.universal import UniversalNetwork


@dataclass(frozen=True, eq=False)
class NetworkExamples:
    """Inputs of the network and labels of N windows."""

    base: Tensor  # [N, L, 2]
    features: Tensor  # [N, L, F]
    truth: Tensor  # [N, L, 2]

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, rows: Tensor) -> NetworkExamples:
        return NetworkExamples(self.base[rows], self.features[rows], self.truth[rows])

    @classmethod
    @torch.no_grad()
    def of(
        cls, network: UniversalNetwork, counts: CategoryCounts, population: PopulationInputs, truth: Tensor
    ) -> NetworkExamples:
        """Compute the inputs from the counts of N windows; ``truth`` [N, L, 2] are the labels."""
        return cls(*network.inputs(Reading.of(counts, population)), truth)

    @classmethod
    def joined(cls, parts: Sequence[NetworkExamples]) -> NetworkExamples:
        """Concatenate examples with the same number of categories."""
        return cls(*(torch.cat([getattr(one, column.name) for one in parts]) for column in fields(cls)))
