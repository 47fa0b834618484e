"""Training from Python: a recipe in whatever form, and the trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.config.load import Layer, load_recipe, recipe_from
from palate.config.recipe import Recipe
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.model.model import PersonalizedModel, load_model
from palate.runs.run import default_run
from palate.training.train import train_run

if TYPE_CHECKING:
    import torch


def train(
    recipe: Recipe | Path | str | Mapping[str, Any],
    data: Dataset | Path | str | None = None,
    out: Path | str | None = None,
    *,
    device: str | torch.device = "auto",
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> PersonalizedModel:
    """Train a model by a recipe, or go on with a run that was interrupted.

    Args:
        recipe: The settings: the path of a YAML file, a :class:`Recipe`, or a dict of what differs from the defaults,
            nested like the file.
        data: A prepared dataset or its folder, in the place of the recipe's ``data.path``.
        out: The run's folder; ``runs/NAME`` of the recipe if not given. A run of the same recipe that lies there goes
            on from its last checkpoint, and one that is finished is loaded.
        device: Where to compute: "auto" is the first GPU if there is one, else the CPU; or a device of torch's, like
            "cpu" or "cuda:1".
        progress: Show bars on stderr.
        report: Is told what happens, a line at a time.

    Returns:
        The model with the best dev score, as it is saved; ``model.run`` is its run, with the recipe, the manifest and
        the curve of the training.

    Raises:
        RecipeError: A setting is unknown or not allowed, or does not fit the data.
        DataError: There is no such dataset.
        MismatchError: A backbone cannot be had, the run that lies there was made from other data, or there is no such
            device.
        OutputError: The folder cannot be written, or holds something else.
        TrainingError: The loss, a gradient or a weight is not finite any more.

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
                "the dataset lies in no folder, which its runs name; give one that prepare() returned"
            )
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"path": place})})
    folder = default_run(settings) if out is None else Path(out).expanduser()
    train_run(settings, folder, report, progress, device, dataset)
    return load_model(folder, device=device)


def _settings(recipe: Recipe | Path | str | Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return recipe_from([Layer("the recipe", recipe)])
    return load_recipe(recipe)
