"""Run folders and their manifests."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from palate.config.load import differing_keys, dump_recipe, load_recipe
from palate.config.recipe import Recipe, WindowSettings
from palate.config.yaml_file import read_yaml
from palate.errors import DataError, MismatchError, OldKeyError, OutputError
from palate.runs.curve import Curve
from palate.system.files import (
    check_fresh,
    fresh_folder,
    read_bytes,
    remove_leftovers,
    unreadable,
    write_text,
)
from palate.system.locks import locked
from palate.system.machine import Machine, checkout_commit, describe_machine, package_versions
from palate.system.places import PACKAGED, rooted
from palate.system.records import Frozen, read_record

if TYPE_CHECKING:
    from palate.data.dataset import DatasetInfo


PACKAGED_FOLDER = Path(__file__).parents[1] / "packaged"
COMPLETE = "complete.json"
"""File that is written last into a checkpoint; without it the checkpoint is incomplete."""


class Manifest(Frozen):
    """Contents of ``manifest.json``: what is needed to reproduce the run, besides its recipe."""

    format: int = 1
    command: str
    commit: str | None  # of the palate checkout; None for an installed package
    versions: dict[str, str]
    machine: Machine
    device: str | None = None  # where the training computed, last if it was resumed
    seed: int
    data_name: str
    data_fingerprint: str
    data_checksums: dict[str, str]
    data_from_run: str | None = (
        None  # the dataset's folder as seen from the run's, for both when they are moved
    )
    started: datetime
    resumed: tuple[datetime, ...] = ()
    ended: datetime | None = None


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """Path of the recipe, with every setting."""
        return self.path / "recipe.yaml"

    @property
    def manifest_file(self) -> Path:
        """Path of the :class:`Manifest`."""
        return self.path / "manifest.json"

    @property
    def logs(self) -> Path:
        """Folder of the curve, and of TensorBoard's event files where that is installed."""
        return self.path / "logs"

    @property
    def curve_file(self) -> Path:
        """The loss and the dev score by step, as a :class:`Curve`."""
        return self.logs / "curve.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints from which an interrupted training resumes."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    @property
    def recommender(self) -> Path:
        """Folder of the recommender that is trained beside a language model, a run of its own."""
        return self.path / "recommender"

    @property
    def recipe(self) -> Recipe:
        """The recipe, read from its file.

        Raises:
            DataError: The file is truncated, so that defaults would replace the missing sections.
            RecipeError: It cannot be read or is not a recipe.
        """
        try:
            recipe = load_recipe(self.recipe_file)
        except OldKeyError as error:
            raise OldKeyError(f"{error}; an earlier version trained this run: train it again") from error
        needed = {name for name, field in Recipe.model_fields.items() if field.default is not None}
        if absent := needed - read_yaml(self.recipe_file).keys():
            raise DataError(
                f"not the whole recipe of a run: it has no {min(absent)!r}; copy the run again",
                self.recipe_file,
            )
        return recipe

    @property
    def manifest(self) -> Manifest:
        """The manifest, read from its file; raises :class:`DataError` if it is damaged."""
        content = read_bytes(self.manifest_file, "the run cannot be used without it; copy it again")
        try:
            return Manifest.model_validate_json(content)
        except ValidationError as error:
            raise DataError("not a run's manifest; the run cannot be used", self.manifest_file) from error

    @property
    def curve(self) -> Curve | None:
        """The course of the training, read anew; None where no step was trained to its end."""
        if not self.curve_file.is_file():
            return None
        return read_record(Curve, self.curve_file, "the file is missing", "train into a new folder")

    @property
    def there(self) -> bool:
        """Whether the folder is a run folder."""
        return self.recipe_file.is_file() and self.manifest_file.is_file()

    @property
    def begun(self) -> bool:
        """Whether the training has written a model or a complete checkpoint."""
        return self.model.is_dir() or any(self.checkpoints.glob(f"checkpoint-*/{COMPLETE}"))

    @property
    def trained_on(self) -> tuple[str, str] | None:
        """Name and fingerprint of the training data; None for a model that knows no data."""
        return self.manifest.data_name, self.manifest.data_fingerprint

    def discard(self) -> None:
        """Remove a run without a model or checkpoint, unless the folder holds other files."""
        ours = (self.checkpoints, self.logs, self.manifest_file, self.recipe_file)
        if self.begun or not self.manifest_file.is_file() or {*self.path.iterdir()} - {*ours}:
            return
        for path in ours:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):
            self.path.rmdir()

    def finish(self) -> None:
        """Record the end of the training in the manifest."""
        self._update(ended=_now())

    def _update(self, **changes: object) -> None:
        manifest = self.manifest.model_copy(update=changes)
        write_text(self.manifest_file, manifest.model_dump_json(indent=2) + "\n")


class PackagedRun(RunFolder):
    """The model that comes with palate: it knows no data, and nothing is written beside it."""

    @property
    def model(self) -> Path:
        """Folder of the model."""
        return self.path

    @property
    def recipe(self) -> Recipe:
        """The defaults, with the windows that it was trained on."""
        return Recipe(name=PACKAGED, windows=WindowSettings(kind="random"))

    @property
    def trained_on(self) -> None:
        """No data."""
        return None


def run_folder(name: Path | str) -> RunFolder:
    """Return the run that a name stands for: a folder, or ``packaged``, for which another folder is ``./packaged``."""
    return PackagedRun(PACKAGED_FOLDER) if str(name) == PACKAGED else RunFolder(Path(name))


def default_run(recipe: Recipe) -> Path:
    """Where a recipe's run lies when no folder is named: ``runs/NAME``."""
    return Path("runs") / recipe.name


def open_run(path: Path | str, recipe: Recipe, data: DatasetInfo, device: str | None = None) -> RunFolder:
    """Make a run's folder, or go on with the one that is there; one with a trained model is left as it is.

    A run in which training has made nothing yet, neither a checkpoint nor a model, makes room for another one.
    What a killed training has left half written is removed. ``device`` says where the training computes.

    Raises:
        OutputError: ``path`` holds something else or a run of another recipe, or another process trains there.
        MismatchError: The run was made from other data.
    """
    with locked(path):
        check_run(path, recipe, data)
        run = RunFolder(Path(path))
        if run.there:
            for folder in (run.path, run.checkpoints, run.logs):
                remove_leftovers(folder)
            if not run.model.is_dir():
                resumed = (*run.manifest.resumed, _now())
                run._update(resumed=resumed, ended=None, device=device, data_from_run=_way(run, recipe))
                write_text(run.recipe_file, dump_recipe(rooted(recipe)))  # the data may lie elsewhere now
            return run
        with fresh_folder(path) as partial:
            new = RunFolder(partial)
            for folder in (new.logs, new.checkpoints):
                folder.mkdir()
            here = {"device": device, "data_from_run": _way(run, recipe)}
            manifest = _new_manifest(recipe, data).model_copy(update=here)
            write_text(new.manifest_file, manifest.model_dump_json(indent=2) + "\n")
            write_text(new.recipe_file, dump_recipe(rooted(recipe)))
        return run


def train_once(
    path: Path,
    recipe: Recipe,
    data: DatasetInfo,
    device: str,
    report: Callable[[str], None],
    train: Callable[[RunFolder], None],
) -> Path:
    """Open a run as :func:`open_run` does, and train it by a function unless it is finished already.

    Args:
        path: The run's folder.
        recipe: Its recipe.
        data: Facts of the dataset.
        device: Where the training computes.
        report: Told where there is nothing to train.
        train: Trains and saves the model of the run that it is given, whose folder no other process trains in.

    Returns:
        The run's folder.

    Raises:
        OutputError: ``path`` holds something else or a run of another recipe, or another process trains there.
        MismatchError: The run was made from other data.
    """
    run = open_run(path, recipe, data, device)
    with locked(path):
        if run.model.is_dir():
            report(f"{path} is finished already")
        else:
            train(run)
            run.finish()
    return path


def check_run(path: Path | str, recipe: Recipe, data: DatasetInfo) -> None:
    """Raise the errors of :func:`open_run` early, without creating anything."""
    run = RunFolder(Path(path))
    if not run.there:
        check_fresh(path)
        return
    try:
        _check_same(run, recipe, data)
    except (OutputError, MismatchError):
        run.discard()
        if run.path.exists():
            raise


def load_run(path: Path | str) -> RunFolder:
    """Open an existing run, or the packaged one; raises :class:`DataError` if the folder is none."""
    run = run_folder(path)
    if isinstance(run, PackagedRun):
        return run
    try:
        if run.recipe_file.is_file():
            return run
    except OSError as error:
        raise unreadable(error, run.recipe_file, "") from error
    raise DataError("not a run: expected a folder that 'palate train' wrote, with a recipe.yaml", path)


def _check_same(run: RunFolder, recipe: Recipe, data: DatasetInfo) -> None:
    keys = differing_keys(rooted(run.recipe), rooted(recipe))
    if keys := [
        key for key in keys if key != "data.path"
    ]:  # the fingerprint tells whether the data is the same
        shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        raise OutputError(f"{run.path} holds a run of another recipe (differs in {shown}); name a new folder")
    if (made_from := run.manifest.data_fingerprint) != data.fingerprint:
        raise MismatchError(
            f"{run.path} was trained on other data: its fingerprint is {made_from[:12]}, "
            f"that of {recipe.data.path} is {data.fingerprint[:12]}; name a new folder"
        )


def _way(run: RunFolder, recipe: Recipe) -> str | None:
    """Path of the dataset relative to the run; None if there is none, as between drives."""
    try:
        return Path(os.path.relpath(recipe.data.path.resolve(), run.path.resolve())).as_posix()
    except ValueError:
        return None


def _new_manifest(recipe: Recipe, data: DatasetInfo) -> Manifest:
    return Manifest(
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        commit=checkout_commit(),
        versions=package_versions(),
        machine=describe_machine(),
        seed=recipe.seed,
        data_name=data.name,
        data_fingerprint=data.fingerprint,
        data_checksums=data.checksums,
        started=_now(),
    )


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
