"""Dispatches a recipe to its training: a personalised language model, a recommender, PEPLER, P5 or POD."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from palate.config.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from palate.data.dataset import Dataset


def train_recipe(
    recipe: Recipe,
    out: Path,
    report: Callable[[str], None] | None = None,
    *,
    progress: bool = False,
    device: str | torch.device = "auto",
    dataset: Dataset | None = None,
) -> Path:
    """Train the recipe's model or recommender, and return the run's folder.

    Args:
        recipe: A recipe; with a section ``recommend`` it is a recommender's, or has one beside its model, with
            ``pepler`` it is PEPLER's, with ``generative`` P5's or POD's.
        out: The run's folder, new or of the same recipe.
        report: Called with progress messages, one line each.
        progress: Show progress bars on stderr. Recommenders have none.
        device: Device of the training; a recommender (``recommend``) is trained on the CPU.
        dataset: The dataset of the recipe's ``data.path``; loaded from there if None.

    Returns:
        The run's folder.

    Raises:
        PalateError: As by :func:`palate.training.train.train_run`, :func:`palate.recommend.train.train_recommender`,
            :func:`palate.generative.pepler_training.train_pepler` and
            :func:`palate.generative.p5_training.train_generative`.
    """
    if recipe.is_recommenders:
        from palate.recommend.train import train_recommender

        return train_recommender(recipe, out, report, dataset)
    if recipe.recommend is not None:
        return _train_both(recipe, out, report or (lambda line: None), progress, device, dataset)
    if recipe.pepler is not None:
        from palate.generative.pepler_training import train_pepler

        return train_pepler(recipe, out, report, dataset, device)
    if recipe.generative is not None:
        from palate.generative.p5_training import train_generative

        return train_generative(recipe, out, report, dataset, device)
    from palate.training.train import train_run

    return train_run(recipe, out, report, progress, device, dataset)


def _train_both(
    recipe: Recipe,
    out: Path,
    tell: Callable[[str], None],
    progress: bool,
    device: str | torch.device,
    dataset: Dataset | None,
) -> Path:
    """Train a model and a recommender beside it; the recommender alone on data with fewer than two categories."""
    from accelerate import PartialState

    from palate.data.dataset import load_dataset
    from palate.recommend.train import train_recommender, without_missing_encoder
    from palate.runs.run import RunFolder
    from palate.tasks import too_few_categories
    from palate.training.train import train_run

    dataset = dataset or load_dataset(recipe.data.path)
    recommender = without_missing_encoder(recipe.of_recommender(), dataset, tell)
    if too_few_categories(dataset.info.categories):
        tell(f"{dataset.info.name} has no two categories to ask about: a recommender alone is trained")
        return train_recommender(recommender, out, tell, dataset)
    train_run(recipe, out, tell, progress, device, dataset)
    processes = PartialState()
    if processes.is_main_process:
        train_recommender(recommender, RunFolder(out).recommender, tell, dataset)
    processes.wait_for_everyone()
    return out
