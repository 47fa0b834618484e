"""A run: one recipe's output folder, and the manifest of what made it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.config import Recipe
from palate.errors import DataError, MismatchError, OutputError
from palate.files import fresh_folder, write_text
from palate.machine import Machine, checkout_commit, describe_machine, package_versions
from palate.recipes import differing_keys, dump_recipe, load_recipe

if TYPE_CHECKING:
    from palate.data.dataset import DatasetInfo


class Manifest(BaseModel):
    """What ``manifest.json`` holds: all that is needed to make the run again, beside its recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    command: str
    commit: str | None  # of the palate checkout; None for an installed package
    versions: dict[str, str]
    machine: Machine
    seed: int
    data_name: str
    data_fingerprint: str
    data_checksums: dict[str, str]
    started: datetime
    resumed: tuple[datetime, ...] = ()
    ended: datetime | None = None


@dataclass(frozen=True)
class RunFolder:
    """The places in a run's folder."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The recipe with every setting written out."""
        return self.path / "recipe.yaml"

    @property
    def manifest_file(self) -> Path:
        """What made the run, as a :class:`Manifest`."""
        return self.path / "manifest.json"

    @property
    def metrics_file(self) -> Path:
        """The scores of the last evaluation."""
        return self.path / "metrics.json"

    @property
    def predictions_file(self) -> Path:
        """One answer a line, of the last evaluation."""
        return self.path / "predictions.jsonl"

    @property
    def logs(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "logs"

    @property
    def checkpoints(self) -> Path:
        """Folder from which an interrupted training goes on."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    @property
    def recipe(self) -> Recipe:
        """The recipe, read anew."""
        return load_recipe(self.recipe_file)

    @property
    def manifest(self) -> Manifest:
        """The manifest, read anew; raises :class:`DataError` when it is damaged."""
        try:
            return Manifest.model_validate_json(self.manifest_file.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError("not a run's manifest; the run cannot be used", self.manifest_file) from error

    def finish(self) -> None:
        """Note in the manifest that training came to its end."""
        self._update(ended=_now())

    def _update(self, **changes: object) -> None:
        manifest = self.manifest.model_copy(update=changes)
        write_text(self.manifest_file, manifest.model_dump_json(indent=2) + "\n")


def open_run(path: Path | str, recipe: Recipe, data: DatasetInfo) -> RunFolder:
    """Make a run's folder, or go on with the one that is there; one with a trained model is left as it is.

    Raises :class:`OutputError` when ``path`` holds something else or a run of another recipe, and
    :class:`MismatchError` when the run was made from other data.
    """
    run = RunFolder(Path(path))
    if run.recipe_file.exists():
        _check_same(run, recipe, data)
        if not run.model.is_dir():
            run._update(resumed=(*run.manifest.resumed, _now()), ended=None)
        return run
    with fresh_folder(path) as partial:
        new = RunFolder(partial)
        for folder in (new.logs, new.checkpoints):
            folder.mkdir()
        write_text(new.manifest_file, _new_manifest(recipe, data).model_dump_json(indent=2) + "\n")
        write_text(new.recipe_file, dump_recipe(recipe))
    return run


def load_run(path: Path | str) -> RunFolder:
    """The run in a folder; raises :class:`DataError` when there is none."""
    run = RunFolder(Path(path))
    if not run.recipe_file.is_file():
        raise DataError("not a run: expected a folder that 'palate train' wrote, with a recipe.yaml", path)
    return run


def _check_same(run: RunFolder, recipe: Recipe, data: DatasetInfo) -> None:
    if keys := differing_keys(run.recipe, recipe):
        shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        raise OutputError(f"{run.path} holds a run of another recipe (differs in {shown}); name a new folder")
    if (made_from := run.manifest.data_fingerprint) != data.fingerprint:
        raise MismatchError(
            f"{run.path} was trained on other data: its fingerprint is {made_from[:12]}, "
            f"that of {recipe.data.path} is {data.fingerprint[:12]}; name a new folder"
        )


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
