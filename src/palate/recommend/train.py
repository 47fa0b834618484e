"""Trains a recommender from a recipe into a run's folder."""

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
from palate.recommend.fit import fit_recommender
from palate.runs.run import RunFolder, train_once
from palate.system.machine import reproducible
from palate.system.places import rooted

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


def quick_settings() -> RecommendSettings:
    """Return settings that fit a recommender in seconds, for a first answer: relations and one rating model."""
    return RecommendSettings(
        texts=False, ridge=500.0, rounds=1, network_size=0, rating_models=1, rating_iterations=10
    )


def without_missing_encoder(recipe: Recipe, dataset: Dataset, tell: Callable[[str], None]) -> Recipe:
    """Return the recipe without item texts if these cannot be encoded, and report it."""
    settings = recipe.recommend
    if settings is None or not settings.texts or not has_texts(dataset):
        return recipe
    try:
        ItemEncoder(recipe.items)
    except MissingExtraError as error:
        tell(f"the recommender ignores item texts: {error}")
        return recipe.model_copy(update={"recommend": settings.model_copy(update={"texts": False})})
    return recipe


def train_recommender(
    recipe: Recipe,
    out: Path | str,
    report: Callable[[str], None] | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Train the recommender of a recipe and return the run's folder.

    The training is deterministic. An interrupted one resumes after the weights, if these were tuned, with the same
    result; a finished one is left as it is. With ``data.protocol``, it trains only on what that protocol of ``palate
    rank`` allows, so that ``palate rank`` can evaluate the run.

    Args:
        recipe: Recipe with a section ``recommend``.
        out: Folder of the run: new, or of the same recipe.
        report: Called with one line per stage.
        dataset: The dataset at the recipe's ``data.path``, if it is already loaded.

    Returns:
        The run's folder.

    Raises:
        RecipeError: The recipe has no section ``recommend``.
        DataError: The data cannot be read, or has no training interactions.
        OutputError: The folder holds something else, or is not writable.
        MismatchError: The run was trained on other data.
    """
    recipe, out = rooted(recipe), Path(out).expanduser()
    settings = recipe.recommend
    if settings is None:
        raise RecipeError("the recipe has no section 'recommend'; add one, even an empty one: {}")
    tell = report or (lambda line: None)
    with reproducible(recipe.train.threads, torch.device("cpu")):
        data = dataset or load_dataset(recipe.data.path)

        def train(run: RunFolder) -> None:
            training = data
            if recipe.data.protocol is not None:
                training = make_split(data, recipe.data.protocol, seed=recipe.seed).training
            users, kept = training.users("train"), run.checkpoints
            fitted = fit_recommender(training, users, settings, recipe.items, recipe.seed, tell, kept)
            fitted.save_pretrained(run.model)

        return train_once(out, recipe, data.info, "cpu", tell, train)
