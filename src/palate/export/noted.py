"""A run's list of its exports, from which deleted users are removed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from palate.errors import OutputError, output_error
from palate.export.manifest import MANIFEST, ExportManifest
from palate.runs.run import run_folder
from palate.system.files import PARTIAL, write_text
from palate.system.locks import beside, locked
from palate.system.records import Frozen, read_record

log = logging.getLogger("palate.export")
NOTED = "exports.json"
"""Name of the list, in the run's folder, or for the packaged model in the dataset's folder."""


class Noted(Frozen):
    """Contents of ``exports.json``."""

    format: int = 1
    folders: tuple[str, ...] = ()
    """Absolute paths of the exports' folders, which may have been moved or deleted since."""


def note_export(run: Path | str, out: Path | str, data: Path | None = None) -> bool:
    """Add an export's folder to the list of a run.

    Args:
        run: The run, or ``packaged``.
        out: The export's folder.
        data: Dataset of the packaged model.

    Returns:
        Whether the export was added; False if the run's folder cannot be written.
    """
    path = _list_of(run, data)
    folder = str(Path(out).resolve())
    if path is None:
        return False
    try:
        with locked(path, wait=True):
            known = _noted(path).folders
            if folder not in known:
                write_text(path, Noted(folders=(*known, folder)).model_dump_json(indent=2) + "\n")
    except OutputError:
        return False
    return True


def exports_with(run: Path | str, user_id: str, data: Path | None = None) -> list[Path]:
    """Return the listed exports of a run whose manifest names a user, and interrupted ones, which may hold the user.

    Args:
        run: The run, or ``packaged``.
        user_id: The user.
        data: Dataset of the packaged model.
    """
    path = _list_of(run, data)
    folders = [] if path is None else [Path(one) for one in _noted(path).folders]
    return [one for one in folders if _holds(one, user_id) or _interrupted(one).is_dir()]


def forget_user(folder: Path, user_id: str) -> None:
    """Delete a user's files from an export, and the user from its manifest; repeat an interrupted call.

    Partial files of an interrupted export are deleted entirely, as resuming it would reuse the user's files.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        if _interrupted(folder).is_dir():
            shutil.rmtree(_interrupted(folder))
        manifest = _manifest(folder)
        if manifest is None:
            return
        for user in manifest.users:
            if user.user_id == user_id:
                for file in user.files:
                    (folder / file.path).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    left = tuple(user for user in manifest.users if user.user_id != user_id)
    write_text(
        folder / MANIFEST, manifest.model_copy(update={"users": left}).model_dump_json(indent=2) + "\n"
    )


def forget_in_exports(
    runs: Iterable[tuple[Path, Path | None]], user_ids: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Remove users from all listed exports of runs.

    Args:
        runs: The runs, each with the dataset of the packaged model or None.
        user_ids: The users.

    Returns:
        The folders from which the users were removed, and those that could not be written, which are logged.
    """
    places, done, left = list(runs), dict[str, None](), dict[str, None]()
    for user_id in user_ids:
        for folder in (one for run, data in places for one in exports_with(run, user_id, data)):
            try:
                forget_user(folder, user_id)
                done[str(folder)] = None
            except OutputError as error:  # noqa: PERF203 - continue with the other folders
                log.warning("an export still holds a deleted user: %s", error)
                left[str(folder)] = None
    return [folder for folder in done if folder not in left], list(left)


def _list_of(run: Path | str, data: Path | None) -> Path | None:
    folder = Path(run) if run_folder(run).keeps else data
    return None if folder is None or not folder.is_dir() else folder / NOTED


def _noted(path: Path) -> Noted:
    if not path.exists():
        return Noted()
    return read_record(Noted, path, "the file is missing", "correct it, or move it away and export again")


def _holds(folder: Path, user_id: str) -> bool:
    manifest = _manifest(folder)
    return manifest is not None and any(user.user_id == user_id for user in manifest.users)


def _manifest(folder: Path) -> ExportManifest | None:
    try:
        return ExportManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _interrupted(folder: Path) -> Path:
    return beside(folder.resolve(), PARTIAL)
