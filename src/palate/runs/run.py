"""Run folders and manifests: created, resumed, checked and loaded."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
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
from palate.system.hub import RUNS, check_not_misspelt, download_model, is_hub_name
from palate.system.locks import locked
from palate.system.machine import Machine, checkout_commit, describe_machine, package_versions
from palate.system.places import PACKAGED, rooted
from palate.system.records import Frozen, read_record

if TYPE_CHECKING:
    from palate.data.dataset import DatasetInfo


PACKAGED_FOLDER = Path(__file__).parents[1] / "packaged"
SAVED_FILES = ("config.json", "recommender.json", "generative.json", "pepler.json")
"""Files that identify a folder of ``save_pretrained``: of a model, a recommender, P5 or POD, or PEPLER."""
HUB_FILES = ("*.json", "*.yaml", "*.safetensors", "*.parquet", "*.md", "*backbone/*", "*items/*")
"""Patterns of the files that are downloaded from a model on the hub."""
COMPLETE = "complete.json"
"""File that is written last into a checkpoint; without it, the checkpoint is incomplete."""


class Manifest(Frozen):
    """Contents of ``manifest.json``: what it takes to reproduce a run, besides its recipe."""

    format: int = 1
    command: str
    commit: str | None  # of the palate checkout; None for an installed package
    versions: dict[str, str]
    machine: Machine
    device: str | None = None  # device of the training; of the last process if it was resumed
    seed: int
    data_name: str
    data_fingerprint: str
    data_checksums: dict[str, str]
    data_from_run: str | None = None  # path of the dataset relative to the run, for when both are moved
    started: datetime
    resumed: tuple[datetime, ...] = ()
    ended: datetime | None = None


@dataclass(frozen=True)
class RunFolder:
    """Paths and records of a run's folder."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """Path of the recipe, with all settings."""
        return self.path / "recipe.yaml"

    @property
    def manifest_file(self) -> Path:
        """Path of the :class:`Manifest`."""
        return self.path / "manifest.json"

    @property
    def logs(self) -> Path:
        """Folder of the training curve, and of TensorBoard event files if TensorBoard is installed."""
        return self.path / "logs"

    @property
    def curve_file(self) -> Path:
        """Path of the training :class:`Curve`."""
        return self.logs / "curve.json"

    @property
    def name(self) -> str:
        """Name of the run in tables: that of its folder."""
        return self.path.resolve().name

    @property
    def keeps(self) -> bool:
        """Whether results may be written beside the model."""
        return True

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, from which an interrupted training resumes."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    @property
    def recommender(self) -> Path:
        """Run folder of the recommender that is trained beside a language model."""
        return self.path / "recommender"

    @property
    def recipe(self) -> Recipe:
        """The recipe, read from its file.

        Raises:
            DataError: The file is truncated; defaults would silently replace the missing sections.
            RecipeError: The file cannot be read or is not a recipe.
        """
        try:
            found = self.recipe_file.stat()
        except OSError:
            return _complete_recipe(self.recipe_file)  # which reports the error
        return _cached_recipe(self.recipe_file, found.st_mtime_ns, found.st_size)

    @property
    def manifest(self) -> Manifest:
        """The manifest, read from its file; raises :class:`DataError` if it is damaged."""
        content = read_bytes(self.manifest_file, "the manifest is missing; copy the run again")
        try:
            return Manifest.model_validate_json(content)
        except ValidationError as error:
            raise DataError("not the manifest of a run; copy the run again", self.manifest_file) from error

    @property
    def curve(self) -> Curve | None:
        """The training curve, read from its file; None if it does not exist yet."""
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
        """Name and fingerprint of the training data; None for a model without a dataset."""
        return self.manifest.data_name, self.manifest.data_fingerprint

    def discard(self) -> None:
        """Remove a run without a model or checkpoint, unless the folder contains other files."""
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
    """The packaged model as a run without a dataset; nothing is written to its folder."""

    @property
    def keeps(self) -> bool:
        """False: the packaged model's folder stays as it is."""
        return False

    @property
    def model(self) -> Path:
        """Folder of the model."""
        return self.path

    @property
    def recipe(self) -> Recipe:
        """Default recipe, with the window kind that the model was trained on."""
        return Recipe(name=PACKAGED, windows=WindowSettings(kind="random"))

    @property
    def trained_on(self) -> None:
        """None, because the model has no dataset."""
        return None


@lru_cache(maxsize=64)
def _cached_recipe(path: Path, modified: int, size: int) -> Recipe:
    """Return a run's recipe, which a command reads many times, parsed once for each version of the file."""
    return _complete_recipe(path)


def _complete_recipe(path: Path) -> Recipe:
    try:
        recipe = load_recipe(path)
    except OldKeyError as error:
        raise OldKeyError(f"{error}; an earlier version trained this run: train it again") from error
    needed = {name for name, field in Recipe.model_fields.items() if field.default is not None}
    if absent := needed - read_yaml(path).keys():
        raise DataError(
            f"incomplete recipe of a run: section {min(absent)!r} is missing; copy the run again", path
        )
    return recipe


class SavedRun(RunFolder):
    """A folder of ``save_pretrained`` as a run: the model's files at the top, perhaps with recipe and manifest."""

    @property
    def model(self) -> Path:
        """Folder of the model."""
        return self.path

    @property
    def recipe(self) -> Recipe:
        """The recipe; raises :class:`DataError` if the files were saved without it."""
        if not self.there:
            raise DataError(
                "a model without its run, so that how it was trained is not known; name the run's folder",
                self.path,
            )
        return super().recipe


@dataclass(frozen=True)
class HubRun(SavedRun):
    """A model from the hub, in the hub's local cache."""

    hub_name: str

    @property
    def model(self) -> Path:
        """Folder of the model: ``model`` of a whole run that was uploaded, or else the top."""
        within = self.path / "model"
        return within if within.is_dir() else self.path

    @property
    def name(self) -> str:
        """Name on the hub."""
        return self.hub_name

    @property
    def keeps(self) -> bool:
        """False: nothing is written into the hub's cache."""
        return False


_downloaded: dict[str, Path] = {}


def download_run(name: str, revision: str | None = None) -> HubRun:
    """Download a model from the hub; :func:`run_folder` returns this commit from then on in this process.

    Raises:
        DataError: There is no such model on the hub, or the hub cannot be reached and has not been before.
    """
    _downloaded[name] = download_model(name, revision, HUB_FILES)
    return HubRun(_downloaded[name], name)


def run_folder(name: Path | str) -> RunFolder:
    """Return the run of a name.

    Args:
        name: A run's folder, or one of ``save_pretrained``; ``packaged`` (write ``./packaged`` for a folder of that
            name); or ``OWNER/NAME`` on the hub, which is downloaded once per process.

    Raises:
        DataError: There is no such model on the hub, or a folder such as ``runs/mine`` does not exist.
    """
    if str(name) == PACKAGED:
        return PackagedRun(PACKAGED_FOLDER)
    if is_hub_name(name):
        known = Path(name).as_posix()
        return HubRun(_downloaded[known], known) if known in _downloaded else download_run(known)
    check_not_misspelt(name)
    folder = Path(name).expanduser()
    saved = not (folder / "model").is_dir() and any((folder / one).is_file() for one in SAVED_FILES)
    return SavedRun(folder) if saved else RunFolder(folder)


def run_elsewhere(name: Path | str) -> Path:
    """Return a path of the run that does not depend on the working directory; ``packaged`` for the packaged model."""
    found = run_folder(name)
    return Path(PACKAGED) if isinstance(found, PackagedRun) else found.path.resolve()


def default_run(recipe: Recipe) -> Path:
    """Return the default folder of a recipe's run: ``runs/NAME``."""
    return RUNS / recipe.name


def open_run(path: Path | str, recipe: Recipe, data: DatasetInfo, device: str | None = None) -> RunFolder:
    """Create a run's folder, or resume the run in it; a finished run is returned unchanged.

    A run without a checkpoint or model is replaced. Partial files of killed processes are removed. ``device`` is
    recorded in the manifest.

    Raises:
        OutputError: ``path`` holds something else or a run of another recipe, or another process is training there.
        MismatchError: The run was trained on other data.
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
                write_text(run.recipe_file, dump_recipe(rooted(recipe)))  # the data may have moved
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
    """Open a run as :func:`open_run` does, and train it unless it is finished.

    Args:
        path: Folder of the run.
        recipe: Recipe of the run.
        data: Facts about the dataset.
        device: Device of the training, for the manifest.
        report: Called with a message if the run is already finished.
        train: Trains and saves the model of the given run, whose folder is locked.

    Returns:
        The folder of the run.

    Raises:
        OutputError: ``path`` holds something else or a run of another recipe, or another process is training there.
        MismatchError: The run was trained on other data.
    """
    run = open_run(path, recipe, data, device)
    with locked(path):
        if run.model.is_dir():
            report(f"{path} is finished already")
        else:
            train(run)
            run.finish()
        shutil.rmtree(run.checkpoints, ignore_errors=True)
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
    """Open an existing run, a saved model or the packaged one; raises :class:`DataError` for another folder."""
    run = run_folder(path)
    if isinstance(run, PackagedRun | SavedRun):
        return run
    try:
        if run.recipe_file.is_file():
            return run
    except OSError as error:
        raise unreadable(error, run.recipe_file, "") from error
    raise DataError("not a run: expected a folder that 'palate train' wrote, with a recipe.yaml", path)


def _check_same(run: RunFolder, recipe: Recipe, data: DatasetInfo) -> None:
    keys = differing_keys(rooted(run.recipe), rooted(recipe))
    if keys := [key for key in keys if key != "data.path"]:  # data is compared by fingerprint
        shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        raise OutputError(f"{run.path} holds a run of another recipe (differs in {shown}); name a new folder")
    if (made_from := run.manifest.data_fingerprint) != data.fingerprint:
        raise MismatchError(
            f"{run.path} was trained on other data: its fingerprint is {made_from[:12]}, "
            f"that of {recipe.data.path} is {data.fingerprint[:12]}; name a new folder"
        )


def _way(run: RunFolder, recipe: Recipe) -> str | None:
    """Return the dataset's path relative to the run; None if there is none, as across Windows drives."""
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
