"""Sampled softmax over a large vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from palate.model.prompt import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class TokenSample:
    """C sampled tokens, with log-weights that correct their logits for the sampling."""

    ids: Tensor  # [C] ascending
    offset: Tensor  # [C] log of the number of tokens that each represents

    def adjusted(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Correct logits [..., C] to an unbiased estimate of the softmax denominator, and map labels to the sample."""
        placed = self.places(labels.clamp(min=0))
        return logits + self.offset, placed.where(labels != IGNORED, IGNORED)

    def places(self, tokens: Tensor) -> Tensor:
        """Map sampled tokens [...] to their places in the sample."""
        return torch.searchsorted(self.ids, tokens)


@contextmanager
def scoring(backbone: PreTrainedModel, sample: TokenSample | None) -> Iterator[None]:
    """Restrict the backbone's output layer to the sampled tokens during the block; it must be frozen."""
    if sample is None:
        yield
        return
    whole = backbone.get_output_embeddings()
    part = nn.Linear(whole.weight.shape[1], len(sample.ids), bias=whole.bias is not None, device="meta")
    for name, weight in whole.named_parameters():
        setattr(part, name, nn.Parameter(weight.detach()[sample.ids], requires_grad=False))
    backbone.set_output_embeddings(part)
    try:
        yield
    finally:
        backbone.set_output_embeddings(whole)
