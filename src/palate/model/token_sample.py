"""Scoring answers against a part of a large vocabulary: a random sample stands for the rest."""

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
    """C tokens of a vocabulary, and what is added to the logit of each for those that it stands for."""

    ids: Tensor  # [C] ascending
    offset: Tensor  # [C] log of the number of tokens that each stands for

    def adjusted(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., C] whose softmax denominator is an unbiased estimate of all tokens', and labels in C."""
        placed = torch.searchsorted(self.ids, labels.clamp(min=0))
        return logits + self.offset, placed.where(labels != IGNORED, IGNORED)


@contextmanager
def scoring(backbone: PreTrainedModel, sample: TokenSample | None) -> Iterator[None]:
    """Let the backbone give logits of the sample's tokens alone; its output embeddings must not be trained."""
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
