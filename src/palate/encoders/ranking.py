"""Differentiable ranking of latent queries and of categories."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

RULERS = 8
"""Number H of learned scores that the queries are ranked by."""
SHARPNESS = 8.0
"""Initial sharpness of the selection: close to a hard argmax."""
NOTHING = -0.8
"""Initial threshold for naming a category, as log-odds: a probability of 0.3."""


class SoftRank(nn.Module):
    """Differentiable rank of each query's features, by pairwise sigmoids.

    Selecting "the best three" requires comparisons between queries. For each of H learned scores, the rank is a soft
    count, with a learned sharpness, of the queries that score higher; queries with few events count less.
    """

    def __init__(self, queries: int, features: int, width: int) -> None:
        super().__init__()
        self.number = nn.Linear(features, RULERS)
        self.counts = nn.Linear(features, RULERS)
        self.of_query = nn.Parameter(torch.zeros(queries, RULERS))
        self.counts_of_query = nn.Parameter(torch.zeros(queries, RULERS))
        self.sharpness = nn.Parameter(torch.linspace(math.log(3), math.log(40), RULERS))
        self.threshold = nn.Parameter(torch.zeros(RULERS))
        self.out = nn.Linear(3 * RULERS, width)
        with torch.no_grad():  # the initial score is the mean rating
            self.number.weight.mul_(0.05)
            self.number.weight[:, 0], self.number.bias[:] = 1.0, 0.0
            self.counts.weight.mul_(0.3)
            self.counts.bias.fill_(1.0)

    def forward(self, features: Tensor) -> Tensor:
        """Map the queries' features [B, Q, features] to rank embeddings [B, Q, width]."""
        placed: Tensor = self.out(torch.cat(self.places(features), dim=-1))
        return placed

    def places(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute each query's soft rank, whether its score exceeds a learned threshold, and its weight.

        Returns:
            Three tensors [B, Q, H].
        """
        sharpness = self.sharpness.exp()
        number = (self.number(features) + self.of_query) * sharpness  # [B, Q, H]
        counts = (self.counts(features) + self.counts_of_query).sigmoid()
        above = (
            number[:, None] - number[:, :, None]
        ).sigmoid()  # [B, Q, Q, H] whether the second is above the first
        rank = (above * counts[:, None]).sum(dim=2) - 0.5 * counts  # without the query itself
        return rank, (number - self.threshold * sharpness).sigmoid(), counts


class NamedCategories(nn.Module):
    """Name embeddings of the ``most`` likeliest liked and disliked categories, for a frozen backbone to copy.

    Position i holds the i-th likeliest category if its probability is high enough, and otherwise "nothing". Its vector
    is the mean of the name embeddings, weighted by the closeness of their log-odds to the i-th largest (SoftSort,
    Prillo & Eisenschlos 2020), plus a vector for liked or disliked.
    """

    def __init__(self, most: int, categories: int, size: int) -> None:
        super().__init__()
        self.most = most
        self.sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.sooner = nn.Parameter(
            torch.zeros(2, categories)
        )  # bias of each category's log-odds in the ranking
        self.nothing = nn.Parameter(torch.full((2,), NOTHING))
        self.name = nn.Parameter(torch.randn(categories + 1, size))  # the last: nothing
        self.of_half = nn.Parameter(torch.zeros(2, size))

    @torch.no_grad()
    def start_from(self, names: Tensor, halves: Tensor) -> None:
        """Initialise the name embeddings [L + 1, E], the last for "nothing", and the vectors of both halves [2, E]."""
        self.name.copy_(names)
        self.of_half.copy_(halves)

    def forward(self, logits: Tensor) -> Tensor:
        """Map log-odds [B, L, 2] to the vectors of liked, then disliked categories, [B, 2 · most, E]."""
        choices = self.choices(logits)  # [B, 2, most, L + 1]
        return (choices @ self.name + self.of_half[:, None]).flatten(1, 2)

    def choices(self, logits: Tensor) -> Tensor:
        """Compute the weights of the categories and, last, of "nothing" at each position, [B, 2, most, L + 1]."""
        score = logits.float().mT + self.sooner  # [B, 2, L]
        nothing = self.nothing[:, None].expand(len(score), 2, 1)
        missing = self.most - score.shape[2]
        ranked = torch.cat(
            [score.sort(descending=True).values[..., : self.most], *[nothing] * missing], dim=-1
        )
        wanted = torch.maximum(ranked, nothing)  # [B, 2, most]
        distance = (wanted[..., None] - torch.cat([score, nothing], dim=-1)[:, :, None]).abs()
        return (-self.sharpness.exp() * distance).softmax(dim=-1)
