"""The Python interface of training: :func:`palate.train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.config.load import Layer, load_recipe, recipe_from
from palate.config.recipe import Recipe
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.model.model import PersonalizedModel, load_model
from palate.recommend.files import is_recommender, load_recommender
from palate.recommend.recommender import Recommender
from palate.runs.run import default_run
from palate.training.start import train_recipe

if TYPE_CHECKING:
    import torch

    from palate.generative.pepler_files import TrainedPepler
    from palate.generative.recommender import GenerativeRecommender


def train(
    recipe: Recipe | Path | str | Mapping[str, Any],
    data: Dataset | Path | str | None = None,
    out: Path | str | None = None,
    *,
    device: str | torch.device = "auto",
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> PersonalizedModel | Recommender | TrainedPepler | GenerativeRecommender:
    """Train a model or a recommender, or resume an interrupted run.

    Args:
        recipe: Path of a YAML file, a :class:`Recipe`, or a nested dict of the settings that differ from the defaults.
        data: A prepared dataset or its folder; the recipe's ``data.path`` if None.
        out: The run's folder; ``runs/NAME`` of the recipe if None. An existing run of the same recipe is resumed from
            its last checkpoint, or loaded if it is finished.
        device: "auto" for the first GPU if there is one, else the CPU; or a torch device such as "cpu" or "cuda:1".
            A recommender is trained on the CPU.
        progress: Show progress bars on stderr. A recommender has none.
        report: Called with progress messages, one line each.

    Returns:
        The saved model with the best dev score; ``model.run`` is its run, with recipe, manifest and training curve. By
        a recipe with a section ``recommend`` it is the saved recommender; where that was trained beside a model,
        :func:`load_recommender` of the same folder gives it. By ``pepler`` it is the trained PEPLER, by ``generative``
        the P5 or POD.

    Raises:
        RecipeError: A setting is unknown, invalid, or does not fit the data.
        DataError: The dataset cannot be read.
        MismatchError: A backbone cannot be loaded, the existing run was trained on other data, or there is no such
            device.
        OutputError: The folder cannot be written, or holds something else.
        TrainingError: The loss, a gradient or a weight is no longer finite.

    Example:
        >>> model = palate.train("recipe.yaml", data, out="runs/small")
        >>> model.run.curve.steps, model.run.recipe.name
        (2, 'tiny')
    """
    settings = _settings(recipe)
    dataset = data if isinstance(data, Dataset) else None
    if data is not None:
        place = data.path if isinstance(data, Dataset) else Path(data).expanduser()
        if place is None:
            raise DataError(
                "the dataset is not saved in a folder, which the run has to refer to; give one that prepare() returned"
            )
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"path": place})})
    folder = default_run(settings) if out is None else Path(out).expanduser()
    train_recipe(settings, folder, report, progress=progress, device=device, dataset=dataset)
    return _trained(settings, folder, device)


def _trained(
    recipe: Recipe, folder: Path, device: str | torch.device
) -> PersonalizedModel | Recommender | TrainedPepler | GenerativeRecommender:
    """Load what a recipe has trained."""
    if recipe.pepler is not None:
        from palate.generative.pepler_files import load_pepler

        return load_pepler(folder)
    if recipe.generative is not None:
        from palate.generative.files import load_generative

        return load_generative(folder, device=device)
    return load_recommender(folder) if is_recommender(folder) else load_model(folder, device=device)


def _settings(recipe: Recipe | Path | str | Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return recipe_from([Layer("the recipe", recipe)])
    return load_recipe(recipe)
