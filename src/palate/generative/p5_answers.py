"""Explanations of a trained P5 or POD for users and items."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from palate.data.windows import draw_windows
from palate.errors import DataError, MismatchError, did_you_mean, unknown_items
from palate.generative.pepler_answers import WrittenExplanation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.data.dataset import Dataset
    from palate.generative.recommender import GenerativeRecommender


def explain_by_ids(
    recommender: GenerativeRecommender, dataset: Dataset, user_id: str, item_ids: Sequence[str]
) -> list[WrittenExplanation]:
    """Write an explanation of each item for a user, with the expected rating where ratings were trained.

    Prompts are those of the training.

    Args:
        recommender: A model that was trained to explain.
        dataset: The data that it was trained on.
        user_id: Id of a user with training interactions.
        item_ids: Items of the data.

    Raises:
        DataError: The user or an item is unknown, or the user has no training interactions.
        MismatchError: The model was not trained to explain.
    """
    families = recommender.model.settings.families
    if "explanation" not in families:
        raise MismatchError(
            f"the run was trained on {', '.join(families)}; add explanation to generative.families and train it again"
        )
    if user_id not in dataset.user_ids:
        known = did_you_mean(user_id, dataset.user_ids)
        raise DataError(f"no user {user_id!r} among those of {dataset.info.name}{known}")
    user = dataset.user_ids.index(user_id)
    if not recommender.facts.known[user]:
        raise DataError(
            f"nothing was learned of the user {user_id!r}, whose id says nothing; take a user of the training"
        )
    places = {one: index for index, one in enumerate(dataset.item_ids)}
    if unknown := [one for one in item_ids if one not in places]:
        raise unknown_items(unknown)
    items = [places[one] for one in item_ids]
    wording = recommender.facts.wording
    fields = [{"who": wording.who(user), "item": wording.items[item]} for item in items]
    recommender = replace(recommender, asked=recommender.asked.model_copy(update={"prompt": "trained"}))
    texts = recommender.write("explanation", "text", fields)
    ratings: list[float | None] = [None] * len(items)
    if "rating" in families:
        windows = draw_windows(dataset.interactions, np.array([user]), 1, "recent", np.random.default_rng(0))
        asked = np.array([items], dtype=np.int32)
        expected = recommender.expected_ratings(windows, np.array([user]), asked)
        ratings = [round(one, 3) for one in expected.mean[0].tolist()]
    return [
        WrittenExplanation(item_id=one, text=text, rating=rating)
        for one, text, rating in zip(item_ids, texts, ratings, strict=True)
    ]
