"""The categories that a user likes and dislikes most, in order, each as a vector that is its softly chosen name."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHARPNESS = 8.0
"""What the distances between log-odds are multiplied by at first: a choice that is almost hard."""
NOTHING = -0.8
"""The log-odds at which a category starts to be worth naming: a chance of three in ten."""


class NamedCategories(nn.Module):
    """The ``most`` likeliest categories of each half as vectors: what a frozen backbone only has to copy.

    Place i is for the i-th likeliest, where that is worth naming, and else for "nothing"; its vector is the mean of
    the names, weighted by how near each one's log-odds are to that one's (SoftSort, Prillo & Eisenschlos 2020), and a
    vector for its half.
    """

    def __init__(self, most: int, categories: int, size: int) -> None:
        super().__init__()
        self.most = most
        self.sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.sooner = nn.Parameter(torch.zeros(2, categories))  # how much sooner each category is named
        self.nothing = nn.Parameter(torch.full((2,), NOTHING))
        self.name = nn.Parameter(torch.randn(categories + 1, size))  # the last: nothing
        self.of_half = nn.Parameter(torch.zeros(2, size))

    @torch.no_grad()
    def start_from(self, names: Tensor, halves: Tensor) -> None:
        """Start from names [L + 1, E], the last for nothing, and what liked and disliked ones add to them, [2, E]."""
        self.name.copy_(names)
        self.of_half.copy_(halves)

    def forward(self, logits: Tensor) -> Tensor:
        """The log-odds of B users' labels, [B, L, 2], to the vectors of liked, then disliked, [B, 2 · most, E]."""
        choices = self.choices(logits)  # [B, 2, most, L + 1]
        return (choices @ self.name + self.of_half[:, None]).flatten(1, 2)

    def choices(self, logits: Tensor) -> Tensor:
        """How much each place chooses each category and, last, nothing: [B, 2, most, L + 1]."""
        score = logits.float().mT + self.sooner  # [B, 2, L]
        nothing = self.nothing[:, None].expand(len(score), 2, 1)
        missing = self.most - score.shape[2]
        ranked = torch.cat(
            [score.sort(descending=True).values[..., : self.most], *[nothing] * missing], dim=-1
        )
        wanted = torch.maximum(ranked, nothing)  # [B, 2, most]
        distance = (wanted[..., None] - torch.cat([score, nothing], dim=-1)[:, :, None]).abs()
        return (-self.sharpness.exp() * distance).softmax(dim=-1)
