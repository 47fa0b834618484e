"""Scaling of soft prompts to the distance of token embeddings from their mean."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.encoders.base import UserPrompt

AT_ONCE = 16_384
"""Batch size for embedding the vocabulary, in tokens."""


class TokenLike(nn.Module):
    """Module that rescales each soft-prompt vector to the median distance of tokens from the mean token embedding.

    Directions from the mean are preserved, and the operation is idempotent.
    """

    mean: Tensor  # [E]
    distance: Tensor  # []

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("distance", torch.ones(()))

    @torch.no_grad()
    def start_from(self, backbone: Backbone) -> None:
        """Set the mean and the median distance from the backbone's token embeddings."""
        tokens = torch.split(torch.arange(backbone.vocab_size), AT_ONCE)
        total = sum(backbone.token_embeddings(some).double().sum(dim=0) for some in tokens)
        assert isinstance(total, Tensor)
        self.mean = (total / backbone.vocab_size).float()
        far = [(backbone.token_embeddings(some) - self.mean).norm(dim=-1) for some in tokens]
        self.distance = torch.cat(far).median()

    def forward(self, prompt: Tensor) -> Tensor:
        """Rescale a prompt [..., E], computed in float32."""
        mean = self.mean.float()
        moved = mean + self.distance.float() * functional.normalize(prompt.float() - mean, dim=-1)
        return moved.to(prompt.dtype)

    def of_user(self, user: UserPrompt) -> UserPrompt:
        """Rescale a user prompt."""
        return replace(user, embeddings=self(user.embeddings))
