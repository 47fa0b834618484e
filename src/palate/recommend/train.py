"""Trains a recommender by a recipe, into a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from palate.config.recipe import Recipe, RecommendSettings
from palate.data.dataset import load_dataset
from palate.data.protocols import make_split
from palate.errors import MissingExtraError, RecipeError
from palate.items.encoder import ItemEncoder
from palate.recommend.content import has_texts
from palate.recommend.files import save_recommender
from palate.recommend.fit import fit_recommender
from palate.runs.run import RunFolder, train_once
from palate.system.machine import reproducible
from palate.system.places import rooted

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


def quick_settings() -> RecommendSettings:
    """Return settings that fit a recommender in seconds, for a first answer: relations and one model of ratings."""
    return RecommendSettings(
        texts=False, ridge=500.0, rounds=1, network_size=0, rating_models=1, rating_iterations=10
    )


def without_missing_encoder(recipe: Recipe, dataset: Dataset, tell: Callable[[str], None]) -> Recipe:
    """Leave texts out of a recommender's recipe where they cannot be encoded, and say so."""
    settings = recipe.recommend
    if settings is None or not settings.texts or not has_texts(dataset):
        return recipe
    try:
        ItemEncoder(recipe.items)
    except MissingExtraError as error:
        tell(f"the recommender does without the items' texts: {error}")
        return recipe.model_copy(update={"recommend": settings.model_copy(update={"texts": False})})
    return recipe


def train_recommender(
    recipe: Recipe,
    out: Path | str,
    report: Callable[[str], None] | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Train the recommender of a recipe and return the run's folder.

    The training is deterministic. One that was interrupted goes on after the weights, if it had learned these, with
    the same result; one that is finished is left as it is. With ``data.protocol`` it learns from what that protocol of
    ``palate rank`` lets be learned from, and from nothing else, so that the run can be ranked by it.

    Args:
        recipe: A recipe with a section ``recommend``.
        out: The run's folder, new or of the same recipe.
        report: Called with a line for each stage.
        dataset: What lies at the recipe's ``data.path``, where that is loaded already.

    Returns:
        The run's folder.

    Raises:
        RecipeError: The recipe has no section ``recommend``.
        DataError: The data cannot be read, or has no training interactions.
        OutputError: The folder holds something else, or cannot be written.
        MismatchError: The run was trained on other data.
    """
    recipe, out = rooted(recipe), Path(out).expanduser()
    settings = recipe.recommend
    if settings is None:
        raise RecipeError("the recipe has no section 'recommend'; add one, which may be empty: {}")
    tell = report or (lambda line: None)
    with reproducible(recipe.train.threads, torch.device("cpu")):
        data = dataset or load_dataset(recipe.data.path)

        def train(run: RunFolder) -> None:
            training = data
            if recipe.data.protocol is not None:
                training = make_split(data, recipe.data.protocol, seed=recipe.seed).training
            users, kept = training.users("train"), run.checkpoints
            fitted = fit_recommender(training, users, settings, recipe.items, recipe.seed, tell, kept)
            save_recommender(fitted, run.model)

        return train_once(out, recipe, data.info, "cpu", tell, train)
