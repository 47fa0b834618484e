"""Computes statistics of a dataset: counts, history lengths, distributions, coverage and examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from palate.config.recipe import TaskSettings
from palate.data.dataset import Dataset, DatasetInfo
from palate.data.label_rules import RuleCoverage, proposed_rule, rule_coverage
from palate.items.texts import dataset_items, texts_for
from palate.schema import SPLITS, Ints, membership
from palate.tasks import load_task, too_few_categories
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.statistics import CategoryStatistics

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
EXAMPLES = 3
_SHOWN_ITEMS = 5
_POINTS = 40


@dataclass(frozen=True)
class ValueRow:
    """Frequency of one rating value or weight."""

    value: float
    interactions: int
    share: float


@dataclass(frozen=True)
class CategoryRow:
    """Statistics of one category: numbers of items and interactions, and of users who like or dislike it."""

    name: str
    items: int
    interactions: int
    share: float  # of all interactions
    mean: float  # of its ratings or weights
    liked: int  # number of users
    disliked: int


@dataclass(frozen=True)
class ItemText:
    """An item's texts as input of the item encoder."""

    item_id: str
    title: str
    description: str


@dataclass(frozen=True)
class UserExample:
    """A user's newest interactions, and the true labels of the full history."""

    user_id: str
    split: str
    length: int
    newest: Sequence[tuple[float, str]]  # value, title
    truth: str | None  # None with too few categories


@dataclass(frozen=True)
class LabelFacts:
    """Labels of the users by category, and the coverage of each label rule."""

    categories: Sequence[CategoryRow]  # by number of interactions, descending
    without_label: float  # share of users who like and dislike nothing
    rule: str
    rules: Sequence[RuleCoverage]
    proposal: str | None


@dataclass(frozen=True)
class Inspection:
    """Results of ``palate inspect``."""

    info: DatasetInfo
    period: str | None  # first and last date; None without times
    lengths: Sequence[int]  # at QUANTILES
    mean_length: float
    longer: Sequence[tuple[int, float]]  # (n, share of users with at least n interactions)
    values: Sequence[ValueRow]
    described_interactions: float  # share of interactions with an item that has a description
    uncategorised_interactions: float
    labels: LabelFacts | None  # None with too few categories
    items: Sequence[ItemText]
    users: Sequence[UserExample]

    @property
    def valued(self) -> bool:
        """Whether interactions have more than one distinct rating or weight."""
        return len(self.values) > 1


def inspect(dataset: Dataset, examples: int = EXAMPLES) -> Inspection:
    """Compute statistics of a dataset, with labels by its default rule from full histories, as in training.

    Args:
        dataset: The dataset.
        examples: Maximum number of example users and items.
    """
    events, info = dataset.interactions, dataset.info
    task = None if too_few_categories(info.categories) else load_task(TaskSettings(), info)
    described = dataset.items["description"].is_not_null().to_numpy()
    uncategorised = dataset.category_matrix.sum(axis=1) == 0
    shown = np.linspace(0, len(dataset.user_ids) - 1, min(examples, len(dataset.user_ids))).astype(np.int64)
    return Inspection(
        info=info,
        period=_period(events.timestamp) if info.has_times else None,
        lengths=[int(one) for one in np.quantile(events.lengths, QUANTILES, method="nearest")],
        mean_length=float(events.lengths.mean()),
        longer=_longer(events.lengths),
        values=_values(dataset),
        described_interactions=float(described[events.item_index].mean()),
        uncategorised_interactions=float(uncategorised[events.item_index].mean()),
        labels=None if task is None else _labels(dataset, task),
        items=_item_texts(dataset, examples),
        users=[_user(dataset, int(user), task) for user in dict.fromkeys(shown.tolist())],
    )


def _labels(dataset: Dataset, task: CategoryPreference) -> LabelFacts:
    truth = task.labels(dataset.statistics)
    labelled = (truth.liked >= 0).any(axis=1) | (truth.disliked >= 0).any(axis=1)
    return LabelFacts(
        categories=_categories(dataset, task, dataset.statistics),
        without_label=float(1 - labelled.mean()),
        rule=task.rule_in_words,
        rules=rule_coverage(dataset),
        proposal=proposed_rule(dataset),
    )


def _period(timestamps: Ints) -> str:
    first, last = int(timestamps.min()), int(timestamps.max())
    try:
        days = [datetime.fromtimestamp(one, timezone.utc).date().isoformat() for one in (first, last)]
    except (OverflowError, OSError, ValueError):
        return f"{first} to {last}, which are not valid dates"
    return f"{days[0]} to {days[1]}"


def _longer(lengths: Ints) -> list[tuple[int, float]]:
    """Compute the share of users with at least n interactions, for n evenly spaced on a log scale."""
    ordered = np.sort(lengths)
    at = np.unique(np.geomspace(max(ordered[0], 1), max(ordered[-1], 1), _POINTS).round().astype(np.int64))
    shares = 1 - np.searchsorted(ordered, at) / len(ordered)
    return list(zip(at.tolist(), shares.tolist(), strict=True))


def _values(dataset: Dataset) -> list[ValueRow]:
    counts = np.bincount(dataset.interactions.rating_index, minlength=len(dataset.info.rating_values))
    return [
        ValueRow(value, int(count), float(count / counts.sum()))
        for value, count in zip(dataset.info.rating_values, counts, strict=True)
    ]


def _categories(
    dataset: Dataset, task: CategoryPreference, statistics: CategoryStatistics
) -> list[CategoryRow]:
    truth, names = task.labels(statistics), dataset.categories
    count, total = statistics.count.sum(axis=0), statistics.total.sum(axis=0)
    items = dataset.category_matrix.sum(axis=0)
    liked, disliked = (membership(half, len(names)).sum(axis=0) for half in (truth.liked, truth.disliked))
    return [
        CategoryRow(
            names[index],
            int(items[index]),
            int(count[index]),
            float(count[index] / len(dataset.interactions)),
            float(total[index] / max(count[index], 1)),
            int(liked[index]),
            int(disliked[index]),
        )
        for index in np.argsort(-count, kind="stable")
    ]


def _item_texts(dataset: Dataset, examples: int) -> list[ItemText]:
    """Return the texts of the items with the most interactions."""
    texts, items = texts_for(dataset.info), dataset_items(dataset)
    popular = np.argsort(-np.bincount(dataset.interactions.item_index, minlength=len(items)), kind="stable")
    return [
        ItemText(item.item_id, texts.title(item), texts.description(item) or "")
        for item in (items[index] for index in popular[:examples])
    ]


def _user(dataset: Dataset, user: int, task: CategoryPreference | None) -> UserExample:
    history = dataset.histories([dataset.user_ids[user]])[0]
    titles = dict(zip(dataset.item_ids, dataset.items["title"].to_list(), strict=True))
    newest = list(zip(history.ratings, history.item_ids, strict=True))[: -_SHOWN_ITEMS - 1 : -1]
    return UserExample(
        user_id=history.user_id,
        split=SPLITS[int(dataset.split_of_user[user])],
        length=len(history),
        newest=[(rating, titles[item_id]) for rating, item_id in newest],
        truth=None
        if task is None
        else task.target_texts(task.labels(dataset.statistics[np.array([user])]))[0],
    )
