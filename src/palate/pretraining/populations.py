"""Random populations for pretraining: synthetic catalogues, preferences, rating scales and histories.

No real data is read, so that the weights are subject to no data licence. Everything that differs between real
catalogues is drawn for each population: the number of categories, their correlations, their number per item, the
popularity of items and whether liked ones are chosen, the rating distribution, the lengths of histories, and the label
rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.config.recipe import TaskSettings
from palate.data.population import PopulationSummary, summarise_histories
from palate.schema import Bools, Doubles, Feedback, Interactions, Ints
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.statistics import CategoryStatistics, category_statistics

SCALES = (
    (1.0, 5.0, 1.0),
    (1.0, 5.0, 1.0),
    (0.5, 5.0, 0.5),
    (1.0, 10.0, 1.0),
    (0.0, 10.0, 1.0),
    (1.0, 7.0, 1.0),
    (1.0, 4.0, 1.0),
    (0.0, 100.0, 5.0),
)
"""Lowest and highest rating, and the step between."""
LONGEST = 700
"""Maximum length of a history."""
QUANTILES_OF_LENGTHS = 65
"""Number of quantiles of history lengths in a summary; a random population has few users with long histories."""


@dataclass(frozen=True)
class Shape:
    """The sizes that all populations of a batch share."""

    categories: int
    max_labels: int
    feedback: Feedback


@dataclass(frozen=True, eq=False)
class RandomPopulation:
    """A population: histories of U users, each in the order of its choices."""

    histories: Interactions
    category_matrix: Bools  # [I, L]
    rating_values: tuple[float, ...]
    task: CategoryPreference
    feedback: Feedback

    def summary(self, users: Ints) -> PopulationSummary:
        """Summarise some users."""
        histories = self.histories.of_users(users)
        return summarise_histories(
            histories,
            self.category_matrix,
            self.rating_values,
            self.task,
            self.feedback,
            quantiles=QUANTILES_OF_LENGTHS,
        )

    def statistics(self, users: Ints) -> CategoryStatistics:
        """Compute the statistics of the full histories of some users."""
        values = np.asarray(self.rating_values, np.float32)
        return category_statistics(self.histories.of_users(users), self.category_matrix, values)


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draw the shared sizes of a batch's populations: 3 to 130 categories, mostly 10 to 50."""
    few, many = [(3, 12), (10, 50), (45, 130)][rng.choice(3, p=[0.12, 0.76, 0.12])]
    return Shape(
        categories=int(np.exp(rng.uniform(np.log(few), np.log(many)))),
        max_labels=3 if rng.random() < 0.9 else int(rng.integers(1, 6)),
        feedback="implicit" if rng.random() < 0.1 else "ratings",
    )


def draw_population(shape: Shape, rng: np.random.Generator) -> RandomPopulation:
    """Draw a population of a shape."""
    labels = shape.categories
    items = int(np.exp(rng.uniform(np.log(250), np.log(3000))))
    has, relation = _catalogue(items, labels, rng)
    users = int(np.exp(rng.uniform(np.log(100), np.log(1200))))
    lengths = _lengths(users, items, rng)
    strength = rng.uniform(0.12, 0.5)
    taste = strength * (
        rng.uniform(0.2, 0.8) * _directed(users, relation, rng)
        + rng.uniform(0.3, 0.9) * _heavy_tailed((users, labels), rng)
    )
    taste = taste * np.exp(
        rng.normal(0, rng.uniform(0, 0.5), (users, 1))
    )  # some users hardly distinguish categories
    number = np.maximum(has.sum(axis=1, keepdims=True), 1)
    liking = (taste + rng.normal(0, rng.uniform(0.05, 0.35), labels)) @ (
        has / number ** rng.uniform(0.4, 1)
    ).T
    quality = rng.normal(0, rng.uniform(0.15, 0.5), items)
    attention = rng.uniform(0.3, 2.5) * (
        rng.uniform(0, 0.8) * _directed(users, relation, rng)
        + rng.uniform(0.3, 1) * rng.normal(0, 1, (users, labels))
    )
    interest = (
        rng.normal(0, rng.uniform(0.6, 1.8), items)
        + rng.uniform(0, 1.5) * quality
        + rng.uniform(0, 2.5) * liking
        + attention @ (has / np.sqrt(number)).T
    )
    histories = _chosen(interest, lengths, has, rng)
    owner = np.repeat(np.arange(users), lengths)
    felt = (
        rng.normal(0, rng.uniform(0.1, 0.5), users)[owner]
        + liking[owner, histories]
        + quality[histories]
        + np.exp(rng.normal(np.log(rng.uniform(0.5, 1.0)), rng.uniform(0, 0.35), users))[owner]
        * rng.normal(0, 1, len(histories))
    )
    values, index = _weights(felt, rng) if shape.feedback == "implicit" else _ratings(felt, rng)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = Interactions(
        offsets, histories.astype(np.int32), index.astype(np.uint8), np.arange(len(histories))
    )
    shares = None
    if shape.feedback == "implicit":
        weight = values[index]
        shares = np.bincount(histories, weight, items) @ has / max(weight.sum(), 1e-9)
    names = tuple(f"category {number:03d}" for number in range(labels))
    task = CategoryPreference(names, "category", _label_rule(shape, values, index, rng), shares)
    return RandomPopulation(events, has, tuple(float(value) for value in values), task, shape.feedback)


def _catalogue(items: int, labels: int, rng: np.random.Generator) -> tuple[Bools, Doubles]:
    """Draw the category membership of items [I, L], and category directions [L, D], by which categories correlate."""
    directions = rng.normal(0, 1, (labels, int(rng.integers(1, 6))))
    common = rng.normal(0, rng.uniform(0.5, 1.5), labels)
    has = np.zeros((items, labels), dtype=np.bool_)
    wide, parent = labels, np.arange(labels)
    if (
        rng.random() < 0.25 and labels >= 6
    ):  # nested: a few broad categories, each other one inside one of them
        wide = int(rng.integers(2, max(labels // 3, 2) + 1))
        parent = rng.integers(0, wide, labels)
        directions = directions[parent] + rng.uniform(0.2, 0.8) * directions
    place = rng.normal(0, 1, (items, directions.shape[1]))
    wish = common + rng.uniform(0, 1.5) * place @ directions.T + rng.gumbel(0, 1, (items, labels))
    number = np.clip(1 + rng.poisson(rng.uniform(0, 2.6), items), 1, min(8, labels))
    order = np.argsort(-wish, axis=1)
    rank = np.arange(labels)[None] < number[:, None]
    np.put_along_axis(has, order, rank, axis=1)
    for child in range(wide, labels):
        has[has[:, child], parent[child]] = True
    return has, directions / np.sqrt(directions.shape[1])


def _directed(users: int, relation: Doubles, rng: np.random.Generator) -> Doubles:
    """Draw values [U, L] that are correlated for categories with similar directions."""
    return np.asarray(rng.normal(0, 1, (users, relation.shape[1])) @ relation.T)


def _heavy_tailed(shape: tuple[int, int], rng: np.random.Generator) -> Doubles:
    return np.asarray(
        rng.standard_t(4, shape) / np.sqrt(2) if rng.random() < 0.3 else rng.normal(0, 1, shape)
    )


def _lengths(users: int, items: int, rng: np.random.Generator) -> Ints:
    shortest = int(rng.choice([1, 5, 10, 20], p=[0.1, 0.15, 0.25, 0.5]))
    drawn = np.exp(rng.normal(np.log(rng.uniform(30, 140)), rng.uniform(0.6, 1.1), users))
    return np.clip(drawn, shortest, min(LONGEST, items // 2)).astype(np.int64)


def _chosen(interest: Doubles, lengths: Ints, has: Bools, rng: np.random.Generator) -> Ints:
    """Draw the items of each user without replacement, by interest, concatenated over users, [N]."""
    noisy = interest + rng.gumbel(0, 1, interest.shape)
    drift: Doubles = np.zeros(has.shape[1])
    if rng.random() < 0.5:
        drift = np.asarray(rng.uniform(0, 1) * rng.normal(0, 1, has.shape[1]))
    order = np.argsort(-noisy, axis=1)[:, : lengths.max()]
    moved = has @ drift  # items that are chosen later than others
    rows = []
    for user, length in enumerate(lengths):
        picked = order[user, :length]
        when = rng.normal(0, 1, length) + (rng.normal() * moved[picked] if drift.any() else 0)
        rows.append(picked[np.argsort(when)])
    return np.concatenate(rows)


def _ratings(felt: Doubles, rng: np.random.Generator) -> tuple[Doubles, Ints]:
    """Map latent utilities to a rating scale: its values [R], and the index of each rating [N]."""
    low, high, step = SCALES[rng.integers(len(SCALES))]
    values = np.arange(low, high + step / 2, step)
    skew = rng.uniform(-0.25, 0.45)
    bent = (1 - np.exp(-skew * felt)) / skew if abs(skew) > 0.02 else felt
    unit = (high - low) * rng.uniform(0.17, 0.28)
    middle = low + (high - low) * rng.uniform(0.45, 0.85)
    index = np.round((middle + unit * bent - low) / step).astype(np.int64)
    return values, np.clip(index, 0, len(values) - 1)


def _weights(felt: Doubles, rng: np.random.Generator) -> tuple[Doubles, Ints]:
    """Draw weights of implicit feedback: constant, or increasing with the latent utility."""
    values = [np.ones(1), np.array([1.0, 2, 3]), np.array([1.0, 3, 10])][rng.integers(3)]
    cuts = np.quantile(felt, np.sort(rng.uniform(0.3, 0.95, len(values) - 1)))
    return values, np.searchsorted(cuts, felt)


def _label_rule(shape: Shape, values: Doubles, index: Ints, rng: np.random.Generator) -> TaskSettings:
    if shape.feedback == "implicit":
        above, below = rng.uniform(1.0, 1.8), rng.uniform(0.4, 0.9)
    elif rng.random() < 0.5:  # as the paper's, on this scale
        above, below = values[0] + np.ptp(values) * np.array([0.625, 0.5])
    else:  # around the mean
        mean, spread = values[index].mean(), values[index].std() + 1e-9
        below, above = mean + spread * np.sort(rng.normal(0, 0.35, 2))
    return TaskSettings(
        like_above=float(above),
        dislike_below=float(below),
        min_count=int(rng.choice([1, 2, 3, 4, 5], p=[0.05, 0.1, 0.65, 0.1, 0.1])),
        max_labels=shape.max_labels,
    )
