"""Empirical-Bayes estimates of each category's statistics in a user's full history, from a part of it.

They need no training. A user's mean ratings by category are multivariate normal with the population's mean and
covariance; the numbers of interactions are beta-binomial; the length of the full history is drawn from those in the
population that are at least as long. Ratings are standardised by the population's mean and spread, so that the scale
does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from palate.data.population import PopulationSummary
from palate.encoders.counts import CategoryCounts
from palate.items.categories import MEMBER

NODES = (0.125, 0.375, 0.625, 0.875)
"""Quantiles of the possible lengths of the full history over which the probabilities are averaged."""
GRID = 24
"""Points of the numerical integral over the score of a category."""
OWN_SPREAD = 10.0
"""Prior weight, in ratings, with which a user's noise is shrunk to the population's."""
OWN_MEAN = 5.0
"""Prior weight, in ratings, with which a user's mean is shrunk to the estimated one."""
LEAST_SD = 1e-3
ROUNDING = 2e-5
"""Tolerance of comparisons with a threshold, in units of the spread."""


@dataclass(frozen=True, eq=False)
class PopulationInputs:
    """Summaries of A populations over L categories as tensors; A is 1, or B for one population per user."""

    mean: Tensor  # [A, 1] in units of the ratings
    spread: Tensor  # [A, 1] in units of the ratings
    step: Tensor  # [A, 1] in units of the ratings
    like_above: (
        Tensor  # [A, 1] in units of the spread from the mean; of shares as multiples if there are no ratings
    )
    dislike_below: Tensor  # [A, 1]
    relative: Tensor  # [A, 1] 1 if the thresholds are relative to the user's mean, 0 if they are absolute
    noise: Tensor  # [A, 1] in units of the spread, like the means and factors below
    means: Tensor  # [A, L]
    factor: Tensor  # [A, L, K]
    own: Tensor  # [A, L]
    lengths: Tensor  # [A, Q]
    share: Tensor  # [A, L]
    variety: Tensor  # [A, L]
    weighted_share: Tensor  # [A, L]
    often: Tensor  # [A, L]
    liked: Tensor  # [A, L]
    disliked: Tensor  # [A, L]
    users: Tensor  # [A, 1]
    min_count: Tensor  # [A, 1]
    max_labels: int
    implicit: bool

    @classmethod
    def of(cls, summaries: Sequence[PopulationSummary]) -> PopulationInputs:
        """Convert summaries with the same number of categories, kind of feedback and number of labels."""
        implicit = summaries[0].feedback == "implicit"
        parts = [_columns(summary, implicit) for summary in summaries]
        rank = max(part["factor"].shape[1] for part in parts)
        for part in parts:
            part["factor"] = np.pad(part["factor"], ((0, 0), (0, rank - part["factor"].shape[1])))
        tensors = {
            name: torch.from_numpy(np.stack([np.asarray(part[name], np.float32) for part in parts]))
            for name in parts[0]
        }
        return cls(**tensors, max_labels=summaries[0].max_labels, implicit=implicit)

    def __getitem__(self, rows: Tensor) -> PopulationInputs:
        """Select the population of each of B users by its index, [B]."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> PopulationInputs:
        """Move the tensors to a device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: object) -> PopulationInputs:
        named = {column.name: getattr(self, column.name) for column in fields(self)}
        return PopulationInputs(
            **{name: change(value) if isinstance(value, Tensor) else value for name, value in named.items()}  # type: ignore[operator]
        )


def _columns(summary: PopulationSummary, implicit: bool) -> dict[str, np.ndarray]:
    mean, spread = summary.mean, summary.spread
    at, unit = (0.0, 1.0) if implicit else (mean, spread)
    scalars = {
        "mean": mean,
        "spread": spread,
        "step": summary.step,
        "like_above": (summary.like_above - at) / unit,
        "dislike_below": (summary.dislike_below - at) / unit,
        "relative": float(summary.rule == "own-mean"),
        "noise": summary.noise / spread,
        "users": summary.users,
        "min_count": summary.min_count,
    }
    return {
        **{name: np.array([value], np.float32) for name, value in scalars.items()},
        "means": (summary.means - mean) / spread,
        "factor": summary.factor / spread,
        "own": summary.own / spread**2,
        "lengths": summary.lengths,
        **{
            name: getattr(summary, name)
            for name in ("share", "variety", "weighted_share", "often", "liked", "disliked")
        },
    }


@dataclass(frozen=True, eq=False)
class Seen:
    """Statistics of the observed interactions of B users, [B, L] or [B, 1]."""

    count: Tensor  # [B, L]
    total: Tensor  # [B, L] sum of the standardised ratings
    within: Tensor  # [B, 1] sum of squared deviations from the user's category means
    length: Tensor  # [B, 1]
    whole: Tensor  # [B, 1] sum of all standardised ratings
    weight: Tensor  # [B, L] sum of the ratings, not standardised
    whole_weight: Tensor  # [B, 1] sum of all ratings, not standardised

    @classmethod
    def of(cls, counts: CategoryCounts, population: PopulationInputs) -> Seen:
        """Convert exact counts to standardised statistics."""
        p = population
        count = counts.count.double() / MEMBER
        total = counts.total.double() / MEMBER
        squares = counts.squares.double() / MEMBER
        unit = (p.step / p.spread).double()
        within = (squares - total**2 / count.clamp(min=1e-9)).clamp(min=0).sum(1, keepdim=True) * unit**2
        length, whole = counts.length.double()[:, None], counts.whole.double()[:, None]
        mean = (p.mean / p.spread).double()
        return cls(
            count=count.float(),
            total=(total * unit - count * mean).float(),
            within=within.float(),
            length=length.float(),
            whole=(whole * unit - length * mean).float(),
            weight=(total * p.step).float(),
            whole_weight=(whole * p.step).float(),
        )


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates for B users; "final" values are those of the full history, for N possible lengths of it."""

    taste: Tensor  # [B, L] mean rating that the user gives to the category's items
    taste_sd: Tensor  # [B, L]
    noise: Tensor  # [B, 1] standard deviation of a rating around it
    offset: Tensor  # [B, 1] common deviation of the user's ratings in all categories
    length: Tensor  # [B, N] final length
    count: Tensor  # [B, N, L] expected final count
    often: Tensor  # [B, N, L] probability that the final count is enough for a label
    lacking: Tensor  # [B, N, L] probability that a disliked label is possible
    score: Tensor  # [B, N, L] final score of the label rule
    score_sd: Tensor  # [B, N, L]


@dataclass(frozen=True, eq=False)
class Reading:
    """Counts of B users with a summary of their population: observed statistics, and estimates from them."""

    seen: Seen
    estimates: Estimates
    population: PopulationInputs
    complete: Tensor | None
    """Whether the counts are of the full history, [B]; False for all if None."""

    @classmethod
    def of(
        cls, counts: CategoryCounts, population: PopulationInputs, complete: Tensor | None = None
    ) -> Reading:
        """Estimate from counts, with one population or one per user."""
        seen = Seen.of(counts, population)
        return cls(seen, estimate_history(seen, population, complete), population, complete)

    @property
    def ratings(self) -> Tensor:
        """Estimated mean rating that each user gives to each category's items, in the ratings' units, [B, L]."""
        return self.estimates.taste * self.population.spread + self.population.mean

    @property
    def final_ratings(self) -> Tensor:
        """Expected mean rating of each category in the full history, in the ratings' units, [B, L]."""
        return self.estimates.score.mean(dim=1) * self.population.spread + self.population.mean

    @property
    def margin(self) -> Tensor:
        """Expected score of each category in the full history above the threshold of liked labels, [B, L].

        In the ratings' units; for data without ratings, in those of the label rule.
        """
        like_above, _ = thresholds_of(self.seen, self.population, self.estimates.offset, self.complete)
        over = self.estimates.score.mean(dim=1) - like_above
        return over if self.population.implicit else over * self.population.spread


def on_scale(ratings: Tensor, values: Sequence[float]) -> Tensor:
    """Map ratings linearly so that the lowest value is 0 and the highest 1."""
    return (ratings - min(values)) / max(max(values) - min(values), 1e-9)


def estimate_history(seen: Seen, p: PopulationInputs, complete: Tensor | None = None) -> Estimates:
    """Estimate the full history of B users.

    Args:
        seen: Statistics of the observed interactions.
        p: The users' population.
        complete: Whether these are the full history, [B]; False for all if None.

    Returns:
        The estimates.
    """
    noise = _own_noise(seen, p)
    taste, taste_sd, offset = _tastes(seen, p, noise)
    length = _final_lengths(seen.length, p.lengths)  # [B, N]
    if complete is not None:
        length = torch.where(complete[:, None], seen.length, length)
    unseen = (length - seen.length)[..., None]  # [B, N, 1]
    strength = 1 / p.variety - 1  # of the beta distribution of shares
    first = seen.count + p.share * strength  # [B, L]
    second = (seen.length - seen.count).clamp(min=0) + (1 - p.share) * strength
    chance = (first / (first + second))[:, None]  # [B, 1, L]
    more = unseen * chance  # [B, N, L]
    often = _reached(seen.count, unseen, first, second, p.min_count)
    least = (p.min_count - seen.count).clamp(min=0)[
        :, None
    ]  # interactions still missing to the minimum count
    if p.implicit:
        final = seen.whole_weight[:, None] + unseen * p.mean[:, None]
        each = (p.means * p.spread + p.mean)[:, None]
        expected = p.weighted_share[:, None].clamp(min=1e-6)
        varied = more * (1 - chance) * (1 + (unseen - 1).clamp(min=0) / (first + second + 1)[:, None])
        score = (seen.weight[:, None] + more * each) / final.clamp(min=1e-6) / expected
        score_sd = varied.clamp(min=0).sqrt() * each / final.clamp(min=1e-6) / expected
        lacking = _long_enough(p.min_count / expected[:, 0], seen.length, p.lengths)
        if complete is not None:
            enough = (length[..., None] * expected >= p.min_count[:, None]).float()
            lacking = torch.where(complete[:, None, None], enough, lacking)
    else:
        came = torch.maximum(more, torch.where(unseen > 0, least, torch.zeros_like(least)))
        final = (seen.count[:, None] + came).clamp(min=1e-6)
        score = (seen.total[:, None] + came * taste[:, None]) / final
        score_sd = (came**2 * taste_sd[:, None] ** 2 + came * noise[..., None] ** 2).sqrt() / final
        lacking = often
    return Estimates(
        taste=taste,
        taste_sd=taste_sd,
        noise=noise,
        offset=offset,
        length=length,
        count=seen.count[:, None] + more,
        often=often,
        lacking=lacking,
        score=score,
        score_sd=score_sd.clamp(min=LEAST_SD),
    )


def thresholds_of(
    seen: Seen, p: PopulationInputs, offset: Tensor | None = None, complete: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Estimate the thresholds above which a category is liked and below which it is disliked, each [B or A, 1].

    They differ between users if the label rule is relative to the user's mean. That mean is shrunk to the estimated
    ``offset`` [B, 1] for users whose history is not ``complete``; it is not shrunk without an offset.
    """
    own = seen.whole / seen.length.clamp(min=1)
    if offset is not None:
        prior = OWN_MEAN * (1 if complete is None else (~complete[:, None]).float())
        own = (seen.whole + prior * offset) / (seen.length + prior).clamp(min=1)
    moved = p.relative * (own - (p.like_above + p.dislike_below) / 2)
    return p.like_above + moved, p.dislike_below + moved


def chances_of_labels(e: Estimates, p: PopulationInputs, like_above: Tensor, dislike_below: Tensor) -> Tensor:
    """Compute the probabilities that the categories are liked and disliked, at each final length, [B, N, L, 2].

    Args:
        e: Estimates for B users.
        p: Their population.
        like_above: Threshold of a liked label, in units of the spread, [A, 1].
        dislike_below: Threshold of a disliked label, in units of the spread, [A, 1].

    Returns:
        The probabilities that a category's final score is beyond the threshold, its final count is sufficient, and at
        most ``max_labels - 1`` categories have a better score, assuming independent scores.
    """
    liked = _among_best(e.score, e.score_sd, e.often, like_above, p.max_labels)
    disliked = _among_best(-e.score, e.score_sd, e.lacking, -dislike_below, p.max_labels)
    return torch.stack([liked, disliked], dim=-1)


def labels_of_all(seen: Seen, p: PopulationInputs, like_above: Tensor, dislike_below: Tensor) -> Tensor:
    """Compute the labels of users with fully observed histories, as the label rule does except for ties by name.

    Args:
        seen: Statistics of B users.
        p: Their population.
        like_above: Threshold of a liked label, in units of the spread, [A, 1].
        dislike_below: Threshold of a disliked label, in units of the spread, [A, 1].

    Returns:
        Rank of each category among the liked and among the disliked, 0 for the best, -1 without the label, [B, L, 2].
    """
    count, score = seen.count.double(), scores_of_all(seen, p)
    expected = seen.length * p.weighted_share.clamp(min=1e-6).double() if p.implicit else count
    often = 1e-6 * count / (1 + count)
    halves = (
        (score + often, (count >= p.min_count) & (score > like_above + ROUNDING)),
        (often - score, (expected >= p.min_count) & (score < dislike_below - ROUNDING)),
    )
    return torch.stack([_places(key, eligible, p.max_labels) for key, eligible in halves], dim=-1)


def scores_of_all(seen: Seen, p: PopulationInputs) -> Tensor:
    """Compute the scores of the label rule [B, L]: in units of the spread, or multiples of the expected share."""
    if p.implicit:
        share = p.weighted_share.clamp(min=1e-6).double()
        score = seen.weight / seen.whole_weight.clamp(min=1e-9) / share
    else:
        score = seen.total / seen.count.double().clamp(min=1e-9)
    return score.double().round(decimals=5)  # equal means are equal, whatever the order of the sums


def _places(key: Tensor, eligible: Tensor, most: int) -> Tensor:
    """Rank the ``most`` largest eligible keys [B, L] from 0; -1 for all others."""
    best = torch.where(eligible, key, -torch.inf).topk(min(most, key.shape[1]), dim=1)
    place = torch.arange(best.values.shape[1], device=key.device).expand_as(best.indices)
    place = torch.where(best.values.isfinite(), place, -1)
    return torch.full_like(key, -1, dtype=torch.int64).scatter(1, best.indices, place)


def _own_noise(seen: Seen, p: PopulationInputs) -> Tensor:
    freedom = (seen.count - 1).clamp(min=0).sum(1, keepdim=True)
    return ((seen.within + OWN_SPREAD * p.noise**2) / (freedom + OWN_SPREAD)).sqrt().clamp(min=0.05)


def _tastes(seen: Seen, p: PopulationInputs, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the best linear estimates of all categories' means jointly: mean and deviation [B, L], offset [B, 1].

    An item with several categories counts in each of them, so the evidence is weighted down accordingly.
    """
    there = seen.count > 0
    mean = seen.total / seen.count.clamp(min=1) - p.means  # [B, L]
    error = noise**2 / seen.count.clamp(min=1e-6)
    repeated = (seen.count.sum(1, keepdim=True) / seen.length.clamp(min=1)).clamp(
        min=1
    )  # mean number of categories per item
    weight = there / (p.own + repeated * error)  # [B, L]
    factor = p.factor.expand(len(seen.count), -1, -1)  # [B, L, K]
    precision = factor.mT @ (weight[..., None] * factor) + torch.eye(factor.shape[2], device=factor.device)
    root = torch.linalg.cholesky(precision)
    sums = factor.mT @ (weight * mean)[..., None]  # [B, K, 1]
    common = (factor @ torch.cholesky_solve(sums, root))[..., 0]  # [B, L]
    spread = torch.linalg.solve_triangular(root, factor.mT, upper=False).square().sum(dim=1)  # [B, L]
    trust = torch.where(there, p.own / (p.own + error), torch.zeros_like(error))
    taste = common + trust * (mean - common)
    variance = p.own * (1 - trust) + (1 - trust) ** 2 * spread
    offset = (p.share * common).sum(1, keepdim=True) / p.share.sum(-1, keepdim=True)
    return p.means + taste, variance.sqrt(), offset


def _final_lengths(length: Tensor, quantiles: Tensor) -> Tensor:
    """Return possible lengths of the full history [B, N]: quantiles of the population's longer histories."""
    quantiles = quantiles.expand(len(length), -1).contiguous()
    last = quantiles.shape[1] - 1
    start = torch.searchsorted(quantiles, length, right=True).float()  # [B, 1]
    nodes = torch.tensor(NODES, device=length.device)
    place = (start + nodes * (last - start)).clamp(min=0, max=last)
    low = place.long()
    part = place - low
    found = quantiles.gather(1, low) * (1 - part) + quantiles.gather(1, (low + 1).clamp(max=last)) * part
    beyond = length * (1 + nodes)  # for users with the longest history of all
    return torch.where(start >= last, beyond, found).maximum(length + 1).round()


def _long_enough(least: Tensor, length: Tensor, quantiles: Tensor) -> Tensor:
    """Compute the probability that the full history has at least ``least`` interactions, [B, N, L].

    The longer histories are divided into N equal parts, whose medians are the lengths of :func:`_final_lengths`. A
    comparison of these medians alone would make the average jump by 1 / N where one of them reaches ``least``.

    Args:
        least: Minimum length by category, [A, L].
        length: Observed lengths, [B, 1].
        quantiles: Quantiles of the lengths of the population's histories, [A, Q].
    """
    quantiles, least = (table.expand(len(length), -1).contiguous() for table in (quantiles, least))
    last = quantiles.shape[1] - 1
    start = torch.searchsorted(quantiles, length, right=True).float().clamp(max=last)[..., None]  # [B, 1, 1]
    above = torch.searchsorted(quantiles, least).clamp(min=1, max=last)
    low, high = quantiles.gather(1, above - 1), quantiles.gather(1, above)
    place = above - 1 + ((least - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    shorter = (place[:, None] - start) / (last - start).clamp(min=1)  # share of the longer histories
    beyond = (least / length - 1)[:, None]  # for users with the longest history of all
    parts = torch.arange(1, len(NODES) + 1, device=length.device)[:, None]
    found = (parts - len(NODES) * torch.where(start >= last, beyond, shorter)).clamp(0, 1)
    return torch.where((least <= length)[:, None], 1.0, found)


def _reached(count: Tensor, unseen: Tensor, first: Tensor, second: Tensor, least: Tensor) -> Tensor:
    """Compute the probability that the final count is at least ``least``, [B, N, L].

    Args:
        count: Observed interactions by category, [B, L].
        unseen: Number of unobserved interactions of any category, [B, N, 1].
        first: First parameter of the beta distribution of the category's share, [B, L].
        second: Second parameter, [B, L].
        least: Minimum count, [A, 1].
    """
    first, second, missing = first[:, None], second[:, None], (least - count)[:, None]
    fewer = torch.zeros_like(unseen * first)
    # P(0) of a beta-binomial distribution, then P(more + 1) from P(more).
    term = (
        torch.lgamma(second + unseen)
        - torch.lgamma(second)
        + torch.lgamma(first + second)
        - torch.lgamma(first + second + unseen)
    ).exp()
    for more in range(int(least.max())):
        fewer = fewer + torch.where(missing > more, term, torch.zeros_like(term))
        left = (unseen - more).clamp(min=0)
        term = term * left / (more + 1) * (first + more) / (second + left - 1).clamp(min=1e-6)
    return (1 - fewer).clamp(0, 1)


def _among_best(score: Tensor, sd: Tensor, eligible: Tensor, above: Tensor, most: int) -> Tensor:
    """Compute the probability of being eligible, above a threshold, and among the ``most`` best, [B, N, L].

    This is an integral over the score; at each point, the number of better categories is Poisson-binomial.
    """
    start = above[:, None, :, None]  # [A, 1, 1, 1]
    highest = (score + 3 * sd).amax(dim=2, keepdim=True)[..., None]  # [B, N, 1, 1]
    width = (highest - start).clamp(min=1e-3)
    points = start + width * torch.linspace(0, 1, GRID + 1, device=score.device)  # [B, N, 1, G + 1]
    beyond = 0.5 * torch.erfc(
        (points - score[..., None]) / (sd[..., None] * math.sqrt(2))
    )  # [B, N, L, G + 1]
    mass = beyond[..., :-1] - beyond[..., 1:]
    better = (eligible[..., None] * (beyond[..., :-1] + beyond[..., 1:]) / 2).clamp(max=0.995)  # [B, N, L, G]
    odds = better / (1 - better)
    none = torch.log1p(-better)
    none = (none.sum(2, keepdim=True) - none).exp()  # probability that no other category is better
    sums = [odds.pow(power).sum(2, keepdim=True) - odds.pow(power) for power in range(1, most)]
    number = symmetric = torch.ones_like(odds)
    polynomials = [symmetric]
    for order in range(1, most):  # Newton's identities for elementary symmetric polynomials
        terms = (
            (-1) ** (power - 1) * polynomials[order - power] * sums[power - 1]
            for power in range(1, order + 1)
        )
        symmetric = sum(terms, torch.zeros_like(odds)).clamp(min=0) / order
        polynomials.append(symmetric)
        number = number + symmetric
    return eligible * (mass * (none * number).clamp(max=1)).sum(dim=3)
