"""Checks and downloads for all cells, before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from palate.config.recipe import RandomT5Settings, Recipe
from palate.config.registry import user_encoders
from palate.data.dataset import INFO_FILE, Dataset, load_dataset
from palate.data.movielens.fetch import RELEASES
from palate.data.prepare import prepare
from palate.errors import DataError
from palate.reproduce.plan import Cell
from palate.schema import SPLITS

HAD_BY_ITSELF = ("ml-100k", "ml-1m")
"""Small releases that are downloaded when a preset needs them; the others are large, or need options."""


def make_ready(cells: Sequence[Cell], tell: Callable[[str], None]) -> None:
    """Prepare the dataset if it can be downloaded, and check the data, backbones and item encoders of all cells.

    Raises:
        DataError: A dataset is missing or has no users in a split.
        MismatchError: A backbone is not available.
        PalateError: An item encoder is not available.
    """
    dataset = dataset_at(cells[0].recipe.data.path, tell)
    for split in SPLITS:
        if not len(dataset.users(split)):
            raise DataError(
                f"has no {split} users, and every cell needs some; prepare more data", dataset.path
            )
    from palate.backbones.load import check_backbone
    from palate.items.encoder import ItemEncoder  # slow to import: after the checks of the data

    recipes = [cell.recipe for cell in cells]
    for settings in dict.fromkeys(recipe.model.backbone for recipe in recipes):
        if not isinstance(settings, RandomT5Settings):
            check_backbone(settings)
    vectors = [recipe.items for recipe in recipes if _reads_vectors(recipe)]
    for items in {settings.encoder: settings for settings in vectors}.values():
        assert ItemEncoder(items).identity


def missing(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a line per missing input of the cells, with the command that provides it; uses no network."""
    yield from missing_data([cells[0].recipe.data.path])
    names: dict[str, None] = {}
    for cell in cells:
        model, items = cell.recipe.model, cell.recipe.items
        if not isinstance(model.backbone, RandomT5Settings):
            names[model.backbone.name] = None
        if _reads_vectors(cell.recipe):
            names[items.encoder] = None
    for name in names:
        if not name.startswith("packaged:") and not Path(name).exists() and not _in_cache(name):
            yield f"missing: {name}; get it with  hf download {name}"


def _reads_vectors(recipe: Recipe) -> bool:
    """Return whether a recipe's system reads item vectors; P5 reads ids."""
    reads = user_encoders.find(recipe.model.user_encoder.kind).reads
    return recipe.generative is None and "vectors" in reads


def missing_data(paths: Sequence[Path]) -> Iterator[str]:
    """Yield a line per missing dataset, with the command that prepares it."""
    for path in paths:
        if (path / INFO_FILE).is_file():
            continue
        if path.name in HAD_BY_ITSELF and not path.exists():
            yield f"missing: {path}, which the first start fetches and prepares"
        else:
            yield f"missing: {path}; make it with  {preparing(path)}"


def _in_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def preparing(path: Path) -> str:
    """Return the command that prepares a dataset; large releases as in the paper, with described items only."""
    if path.name in HAD_BY_ITSELF or path.name not in RELEASES:
        return f"palate prepare {path.name if path.name in RELEASES else 'FILES'} --out {path}"
    described = "--descriptions DESCRIPTIONS.csv --described-only --min-ratings 20"
    return f"palate prepare {path.name} {described} --out {path}"


def dataset_at(path: Path, tell: Callable[[str], None]) -> Dataset:
    """Load a dataset, or prepare it if it can be downloaded.

    Raises:
        DataError: The dataset is missing or cannot be read.
    """
    if (path / INFO_FILE).is_file():
        return load_dataset(path)
    if path.name in HAD_BY_ITSELF and not path.exists():
        tell(f"there is no {path} yet; preparing {path.name}")
        return prepare(path.name, path, report=tell)
    raise DataError(
        f"no dataset here, which all cells need; run  {preparing(path)}  first, or name another with --data",
        path,
    )
