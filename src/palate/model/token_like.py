"""Soft prompts that look like tokens to the backbone: as far from the mean token embedding as tokens are."""

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
"""Tokens that are embedded in one call: a vocabulary may be large."""


class TokenLike(nn.Module):
    """Moves each soft-prompt vector to the distance from the mean token embedding that the median token has.

    The vector keeps its direction from there, and one that is moved again stays where it is.
    """

    mean: Tensor  # [E]
    distance: Tensor  # []

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("distance", torch.ones(()))

    @torch.no_grad()
    def start_from(self, backbone: Backbone) -> None:
        """Measure the backbone's token embeddings."""
        tokens = torch.split(torch.arange(backbone.vocab_size), AT_ONCE)
        total = sum(backbone.token_embeddings(some).double().sum(dim=0) for some in tokens)
        assert isinstance(total, Tensor)
        self.mean = (total / backbone.vocab_size).float()
        far = [(backbone.token_embeddings(some) - self.mean).norm(dim=-1) for some in tokens]
        self.distance = torch.cat(far).median()

    def forward(self, prompt: Tensor) -> Tensor:
        """[..., E], computed in float32 whatever the prompt is in."""
        mean = self.mean.float()
        moved = mean + self.distance.float() * functional.normalize(prompt.float() - mean, dim=-1)
        return moved.to(prompt.dtype)

    def of_user(self, user: UserPrompt) -> UserPrompt:
        """The same for a user prompt."""
        return replace(user, embeddings=self(user.embeddings))
