"""Fits a recommender to the training users of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError
from palate.items.encoder import ItemEncoder
from palate.items.table import build_item_table
from palate.items.texts import texts_for
from palate.recommend.held_out import hold_out, user_folds
from palate.recommend.order import COMMON, common_order
from palate.recommend.ratings import RatingModel, fit_ratings
from palate.recommend.recommender import CatalogueFacts, Recommender
from palate.recommend.relations import (
    Relation,
    VectorRelation,
    category_vectors,
    cooccurrence,
    regression,
    succession,
    text_vectors,
)
from palate.recommend.scorer import EventWeights, RelationWeights, Scorer, ScorerWeights, popularity_of
from palate.recommend.tuning import Fold, Grids, best_penalty, tune
from palate.schema import Floats, Interactions, Ints

if TYPE_CHECKING:
    from palate.config.recipe import ItemSettings, RecommendSettings
    from palate.data.dataset import Dataset

DEFAULT_RIDGE = 1000.0
FEWEST = 20
"""Held-out interactions below which the weights stay as they are at the start."""


def fit_recommender(
    dataset: Dataset,
    users: Ints,
    settings: RecommendSettings,
    items: ItemSettings,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> Recommender:
    """Fit a recommender.

    Args:
        dataset: The data.
        users: Users whose interactions are learned from, [U]; those without any count nothing.
        settings: Settings of the recommender.
        items: Settings of the item encoder.
        seed: Seed of the held-out users and of the rating model's start.
        report: Called with a line for each stage.

    Returns:
        The recommender.

    Raises:
        DataError: There are no interactions to learn from.
    """
    tell = report or (lambda line: None)
    events = dataset.interactions.of_users(users[dataset.interactions.lengths[users] > 0])
    if not len(events):
        raise DataError(
            "no training user has an interaction; prepare the data with more training users", dataset.path
        )
    rng = np.random.default_rng(seed)
    content = _content(dataset, settings, items)
    missing = _missing(dataset, content, settings)
    for line in missing:
        tell(line)
    settings = settings.model_copy(update={"ordered": _is_ordered(dataset, events, settings, rng, tell)})
    deviations = _deviations(dataset, events)
    weights, penalty = _tuned(dataset, events, settings, content, deviations, rng, tell)
    settings = settings.model_copy(update={"ridge": penalty})
    scorer = _scorer(dataset, events, settings, content, deviations, weights)
    ratings = _ratings(dataset, events, settings, rng)
    return Recommender(CatalogueFacts.of(dataset, settings.history, missing), dataset.items, scorer, ratings)


def _content(dataset: Dataset, settings: RecommendSettings, items: ItemSettings) -> dict[str, Relation]:
    """Relations that an item has without any interaction."""
    found: dict[str, Relation] = {}
    if dataset.categories:
        found["categories"] = VectorRelation(category_vectors(dataset.category_matrix))
    if settings.texts and _has_texts(dataset):
        table = build_item_table(dataset, ItemEncoder(items), texts=texts_for(dataset.info, items.texts))
        found["texts"] = VectorRelation(text_vectors(table.vectors.sum(axis=1), settings.text_size))
    return found


def _has_texts(dataset: Dataset) -> bool:
    return bool((dataset.items["title"] != dataset.items["item_id"]).any())


def _missing(dataset: Dataset, content: dict[str, Relation], settings: RecommendSettings) -> tuple[str, ...]:
    said = []
    if "categories" not in content:
        said.append("no categories: items are not related by them, and cannot be filtered by them")
    if "texts" not in content:
        left_out = not settings.texts and _has_texts(dataset)
        why = "recommend.texts is false" if left_out else "no item texts"
        said.append(f"{why}: an item without interactions is known by its categories alone")
    if dataset.info.feedback != "ratings":
        said.append("no ratings: stars cannot be predicted")
    if not dataset.info.has_times:
        said.append("no times: recency goes by the order of interactions alone")
    return tuple(said)


def _is_ordered(
    dataset: Dataset,
    events: Interactions,
    settings: RecommendSettings,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> bool:
    if settings.ordered != "auto":
        return settings.ordered
    if dataset.info.has_times or (found := common_order(events, len(dataset.items), rng)) < COMMON:
        return True
    tell(
        f"no order: histories follow one order of the items, as sorted files do (rank correlation {found:.2f} on "
        "users that it was not found on), and count as sets; set ordered: true if it is that of time"
    )
    return False


def _deviations(dataset: Dataset, events: Interactions) -> Floats:
    """Rating values in standard deviations of the interactions' from their mean, [R]; zeros if all are the same."""
    values = dataset.rating_values
    found = values[events.rating_index]
    spread = float(found.std())
    deviations: Floats = ((values - found.mean()) / spread if spread > 0 else values * 0).astype(np.float32)
    return deviations


def _relations(events: Interactions, items: int, settings: RecommendSettings) -> dict[str, Relation]:
    found: dict[str, Relation] = {
        "cooccurrence": cooccurrence(events, items, settings.damping, settings.neighbours)
    }
    if settings.ordered:
        found["succession"] = succession(events, items, settings.damping, settings.neighbours)
    if items <= settings.ridge_items:
        found["ridge"] = regression(events, items, settings.ridge or DEFAULT_RIDGE)
    return found


def _scorer(
    dataset: Dataset,
    events: Interactions,
    settings: RecommendSettings,
    content: dict[str, Relation],
    deviations: Floats,
    weights: ScorerWeights | None = None,
) -> Scorer:
    relations = {**_relations(events, len(dataset.items), settings), **content}
    counts = np.bincount(events.item_index, minlength=len(dataset.items)).astype(np.float32)
    decay = 0.5 if settings.ordered else 1.0
    start = RelationWeights(weight=1.0, events=EventWeights(decay=decay))
    weights = weights or ScorerWeights(relations=dict.fromkeys(relations, start))
    return Scorer(relations, popularity_of(counts), deviations, weights)


def _tuned(
    dataset: Dataset,
    events: Interactions,
    settings: RecommendSettings,
    content: dict[str, Relation],
    deviations: Floats,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> tuple[ScorerWeights | None, float | None]:
    """Learn the weights, and the ridge penalty, on held-out users, from relations of the others."""
    folds = []
    for held in user_folds(events.lengths, settings.held_out, rng):
        others = events.of_users(np.setdiff1d(np.arange(len(events.lengths)), held))
        held_out = hold_out(events.of_users(held), bool(settings.ordered), settings.history, rng)
        folds.append((others, held_out))
    number = sum(len(held_out) for _, held_out in folds)
    if number < FEWEST:
        tell(f"{number} held-out interactions are too few to learn weights from; they stay as they start")
        return None, settings.ridge
    if settings.ridge is None and len(dataset.items) <= settings.ridge_items:
        penalty = best_penalty(folds, len(dataset.items))
        tell(f"ridge penalty {penalty:g}")
        settings = settings.model_copy(update={"ridge": penalty})
    scored = [
        Fold(_scorer(dataset, others, settings, content, deviations), held_out) for others, held_out in folds
    ]
    ordered = bool(settings.ordered)
    grids = Grids(ordered, ordered and dataset.info.has_times, bool(deviations.any()))
    return tune(scored, grids, settings.rounds, rng, tell), settings.ridge


def _ratings(
    dataset: Dataset, events: Interactions, settings: RecommendSettings, rng: np.random.Generator
) -> RatingModel | None:
    if dataset.info.feedback != "ratings":
        return None
    values = dataset.rating_values[events.rating_index].astype(np.float64)
    return fit_ratings(
        events, values, len(dataset.items), settings.rating_rank, settings.rating_iterations, rng
    )
