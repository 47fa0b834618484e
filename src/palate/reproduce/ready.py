"""Checks and downloads for all cells, before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from palate.config.recipe import RandomT5Settings
from palate.config.registry import user_encoders
from palate.data.dataset import INFO_FILE, Dataset, load_dataset
from palate.data.movielens.fetch import RELEASES
from palate.data.prepare import prepare
from palate.errors import DataError
from palate.reproduce.plan import Cell
from palate.schema import SPLITS

HAD_BY_ITSELF = ("ml-100k", "ml-1m")
"""Releases of a few megabytes, fetched when a preset needs them; the others take a while and some choices."""


def make_ready(cells: Sequence[Cell], tell: Callable[[str], None]) -> None:
    """Prepare the dataset where it can be had, and check what all cells need: data, backbones and item encoders.

    Raises:
        DataError: For a dataset that is not there or has no users in a split.
        MismatchError: For a backbone that cannot be had.
        PalateError: For an item encoder that cannot be had.
    """
    dataset = _dataset(cells[0].recipe.data.path, tell)
    for split in SPLITS:
        if not len(dataset.users(split)):
            raise DataError(
                f"has no {split} users, and every cell needs some; prepare more data", dataset.path
            )
    from palate.backbones.load import check_backbone
    from palate.items.encoder import ItemEncoder  # what takes seconds to import comes after the data

    recipes = [cell.recipe for cell in cells]
    for settings in dict.fromkeys(recipe.model.backbone for recipe in recipes):
        if not isinstance(settings, RandomT5Settings):
            check_backbone(settings)
    vectors = [
        recipe.items
        for recipe in recipes
        if user_encoders.find(recipe.model.user_encoder.kind).reads == "vectors"
    ]
    for items in {settings.encoder: settings for settings in vectors}.values():
        assert ItemEncoder(items).identity


def _dataset(path: Path, tell: Callable[[str], None]) -> Dataset:
    if (path / INFO_FILE).is_file():
        return load_dataset(path)
    if path.name in HAD_BY_ITSELF and not path.exists():
        tell(f"there is no {path} yet; preparing {path.name}")
        return prepare(path.name, path, report=tell)
    how = f"palate prepare {path.name if path.name in RELEASES else 'FILES'} --out {path}"
    raise DataError(
        f"no dataset here, which all cells need; run  {how}  first, or name another with --data", path
    )
