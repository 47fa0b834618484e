"""Journal of an export: the users whose files are complete, for the resumption of an interrupted export."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import TYPE_CHECKING

from pydantic import ValidationError

from palate.export.manifest import MANIFEST, ExportedUser, ExportManifest
from palate.system.files import sha256_of, write_text
from palate.system.records import Frozen

if TYPE_CHECKING:
    from pathlib import Path

    from palate.schema import History, Item

JOURNAL = "journal.jsonl"


class Line(Frozen):
    """Journal entry of a user whose files have been written."""

    history: str
    """:func:`history_digest` of the user's history and new items."""
    user: ExportedUser


class Journal:
    """Journal file in an export's folder: the export's settings, then one line for each written user.

    Args:
        folder: The export's folder. If it holds a journal of other settings, all of its files are deleted.
        manifest: Settings of the export, as a manifest without users.
    """

    def __init__(self, folder: Path, manifest: ExportManifest) -> None:
        self.folder = folder
        self._lines: dict[str, Line] = {}
        exported = manifest.model_dump_json(exclude={"made"})
        found = _lines(folder / JOURNAL)
        if found[:1] == [exported]:
            with suppress(ValidationError):  # the last line may be incomplete
                for text in found[1:]:
                    line = Line.model_validate_json(text)
                    self._lines[line.user.user_prompt.path] = line
        else:
            for path in folder.iterdir():
                _remove(path)
        lines = [exported, *(line.model_dump_json() for line in self._lines.values())]
        write_text(folder / JOURNAL, "\n".join(lines) + "\n")

    def written(self, digests: Mapping[str, str]) -> list[ExportedUser] | None:
        """Return the users of a batch if all their files exist and match the journal, else None.

        Args:
            digests: Digests of the histories by path of the user prompt.
        """
        lines = [self._lines.get(path) for path in digests]
        there = [
            line.user
            for line, digest in zip(lines, digests.values(), strict=True)
            if line is not None and line.history == digest
            if all(_is(self.folder / file.path, file.sha256) for file in line.user.files)
        ]
        return there if len(there) == len(lines) else None

    def add(self, users: Sequence[ExportedUser], digests: Mapping[str, str]) -> None:
        """Record the users of a batch whose files have been written."""
        lines = [Line(history=digests[user.user_prompt.path], user=user) for user in users]
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.writelines(line.model_dump_json() + "\n" for line in lines)

    def close(self, manifest: ExportManifest) -> None:
        """Remove the journal and all files that the manifest does not list."""
        named = {self.folder / file.path for user in manifest.users for file in user.files}
        folders = {self.folder / "users", self.folder / "complete"}
        kept = named | folders | {self.folder / MANIFEST}
        if manifest.weights is not None:
            kept.add(self.folder / manifest.weights.folder)
        for path in [*self.folder.iterdir(), *(path for one in folders for path in one.glob("*"))]:
            if path not in kept:
                _remove(path)


def history_digest(history: History, new_items: Sequence[Item]) -> str:
    """Return the sha256 of a user's history and new items."""
    columns = ([*history.item_ids], [*map(float, history.ratings)], [*map(int, history.timestamps)])
    content = json.dumps([history.user_id, *columns, *map(astuple, new_items)])
    return hashlib.sha256(content.encode()).hexdigest()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []


def _is(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
