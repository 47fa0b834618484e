"""Finds the dataset of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from palate.data.dataset import INFO_FILE, Dataset, load_dataset
from palate.errors import DataError
from palate.runs.run import RunFolder


def dataset_of(run: RunFolder | None, given: Path | None = None) -> Dataset:
    """Load the dataset of a run.

    Args:
        run: Run; may be None if ``given`` is not.
        given: Folder of the dataset; by default the recipe's ``data.path``, or else the same path relative to the
            run, which finds it if both were moved together.

    Returns:
        The dataset.

    Raises:
        DataError: The dataset cannot be read, or is in neither place; the message names both.
    """
    if given is not None:
        return load_dataset(given.expanduser())
    assert run is not None
    if run.trained_on is None:
        raise DataError("the packaged model has no training data; name a dataset with --data")
    places = list(dict.fromkeys(_places(run)))
    there = [place for place in places if (place / INFO_FILE).is_file()]
    if not there:
        tried = " nor ".join(map(str, places))
        raise DataError(
            f"the data of the run is not at {tried}; if it was moved, name its folder with --data", run.path
        )
    fingerprint = run.trained_on[1]
    return load_dataset(next((place for place in there if _fingerprint(place) == fingerprint), there[0]))


def _places(run: RunFolder) -> Iterator[Path]:
    path, here = run.recipe.data.path, run.path.resolve()
    yield path
    if (beside := run.manifest.data_from_run) is not None:
        yield Path(os.path.normpath(here / beside))
    elif (
        not path.is_absolute()
    ):  # runs of earlier versions: relative to the working directory of the training
        yield from (folder / path for folder in here.parents if (folder / path).is_dir())


def _fingerprint(folder: Path) -> object:
    try:
        found = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("fingerprint") if isinstance(found, dict) else None
