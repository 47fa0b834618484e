"""The universal network: corrects empirical-Bayes estimates of the labels, with weights shared by all categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.encoders.estimates import (
    Estimates,
    PopulationInputs,
    Reading,
    Seen,
    chances_of_labels,
    labels_of_all,
    thresholds_of,
)

if TYPE_CHECKING:
    from palate.config.recipe import UniversalSettings

RULERS = 8
"""Number of learned scores that categories are ranked by."""
CERTAIN = 7.0
"""Largest absolute log-odds of the estimates."""
FEATURES = 38
"""Number of input features per category."""


class UniversalNetwork(nn.Module):
    """Maps counts by category and a population's summary to the log-odds that each category is liked and disliked.

    It is permutation-equivariant over categories: all share the same weights, and attention compares them. An
    untrained network returns the log-odds of the estimates. Trained on one dataset, it may have a learned vector per
    category.
    """

    features = FEATURES

    def __init__(self, settings: UniversalSettings) -> None:
        super().__init__()
        width = settings.d_model
        self.read = nn.Sequential(nn.Linear(FEATURES, width), nn.GELU(), nn.Linear(width, width))
        self.number, self.ranked = nn.Linear(FEATURES, RULERS), nn.Linear(RULERS, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, settings.num_heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(settings.num_layers)
        )
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.own: nn.Parameter | None = None
        if settings.own:
            self.learn_own(settings.own)

    def learn_own(self, categories: int) -> None:
        """Add a learned vector for each of ``categories`` categories, initialised to have no effect."""
        weight = self.out.weight
        self.own = nn.Parameter(weight.new_zeros(categories, weight.shape[1]))

    def forward(self, reading: Reading, thresholds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the log-odds of the categories of B users.

        Args:
            reading: Statistics and estimates of the users.
            thresholds: Scores above which a category is liked and below which it is disliked, in the units of the
                ratings (or of shares as multiples), [B, 2]; the population's if None.

        Returns:
            Log-odds that a category is liked and disliked, [B, L, 2], and the hidden vectors, [B, L, d_model].
        """
        with torch.no_grad():
            base, features = self.inputs(reading, thresholds)
        logits, hidden = self.correct(base, features)
        if reading.complete is not None:  # the labels follow from the counts
            logits = torch.where(reading.complete[:, None, None], base, logits)
        return logits, hidden

    def correct(self, base: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map the results of :meth:`inputs` to those of :meth:`forward`."""
        number = self.number(features) * 4
        rank = (number[:, None] - number[:, :, None]).sigmoid().mean(dim=2)  # [B, L, RULERS]
        hidden = self.read(features) + self.ranked(rank)
        if self.own is not None:  # categories that were appended later have no vector
            hidden = hidden + functional.pad(self.own, (0, 0, 0, hidden.shape[1] - len(self.own)))
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = self.norm(hidden)
        return base + self.out(hidden), hidden

    def inputs(self, reading: Reading, thresholds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the inputs, which do not depend on the weights: log-odds [B, L, 2] and features [B, L, F]."""
        seen, estimates, p, complete = reading.seen, reading.estimates, reading.population, reading.complete
        like, dislike = thresholds_of(seen, p, estimates.offset, complete)
        if thresholds is not None:
            at, unit = (0.0, 1.0) if p.implicit else (p.mean, p.spread)
            like, dislike = (thresholds[:, :1] - at) / unit, (thresholds[:, 1:] - at) / unit
        chances = chances_of_labels(estimates, p, like, dislike)
        base = _log_odds(chances.mean(dim=1))
        if complete is not None:
            place = labels_of_all(seen, p, like, dislike)
            known = torch.where(place < 0, -CERTAIN, CERTAIN - place.float() / 2)
            base = torch.where(complete[:, None, None], known, base)
        extremes = torch.cat([_log_odds(chances[:, 0]), _log_odds(chances[:, -1])], dim=-1)  # [B, L, 4]
        columns = _features(seen, estimates, p, base, like, dislike)
        return base, torch.cat([columns, (extremes - torch.cat([base, base], dim=-1)) / 2], dim=-1)


def _log_odds(chances: Tensor) -> Tensor:
    return chances.clamp(1e-4, 1 - 1e-4).logit().clamp(-CERTAIN, CERTAIN)


def _features(
    seen: Seen, e: Estimates, p: PopulationInputs, base: Tensor, like: Tensor, dislike: Tensor
) -> Tensor:
    """Compute all but the last four features of each category, [B, L, F - 4], in units of the spread."""
    count = seen.count
    there = (count > 0).float()
    mean = seen.total / count.clamp(min=1)
    middle = e.score.shape[1] // 2
    score, sd = e.score[:, middle], e.score_sd[:, middle]
    between = (p.own + p.factor.square().sum(-1)).sqrt()
    expected = seen.length * p.share
    columns = [
        base[..., 0] / 4,
        base[..., 1] / 4,
        (e.taste - like).clamp(-4, 4),
        (e.taste - dislike).clamp(-4, 4),
        e.taste_sd,
        (score - like).clamp(-4, 4),
        (score - dislike).clamp(-4, 4),
        sd.clamp(max=4),
        ((score - like) / sd).clamp(-5, 5) / 3,
        ((score - dislike) / sd).clamp(-5, 5) / 3,
        there * (mean - like).clamp(-4, 4),
        there * (mean - dislike).clamp(-4, 4),
        there,
        (count >= p.min_count).float(),
        torch.log1p(count) / 3,
        torch.log1p(count) - torch.log1p(expected),
        torch.log1p(e.count[:, middle]) / 3,
        e.often.mean(dim=1),
        e.lacking.mean(dim=1),
        p.liked * 3,
        p.disliked * 3,
        p.often,
        p.share.clamp(min=1e-5).log() / 5,
        (p.means - like).clamp(-4, 4),
        (p.means - dislike).clamp(-4, 4),
        between,
        p.variety.log() / 4,
        torch.log1p(seen.length) / 5,
        (e.length[:, middle, None] / seen.length.clamp(min=1)).log() / 3,
        e.offset,
        e.noise,
        p.min_count / 5,
        torch.log1p(p.users) / 8,
        torch.full_like(p.users, count.shape[1]).log() / 5,
    ]
    return torch.stack([column.expand(count.shape) for column in columns], dim=-1)
