"""Access to the files of a release, in a folder or a zip."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from palate.data.unpacking import check_unpacked
from palate.errors import DataError

_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError, IndexError),
)
"""Exceptions of :mod:`zipfile` for damaged content; it also raises OSError without an error number."""


@dataclass(frozen=True)
class SourceFiles:
    """A folder or a zip, and its files by name."""

    path: Path
    members: dict[str, str]  # file name -> path inside ``path``

    @property
    def name(self) -> str:
        """Name of the folder, or of the zip without its extension."""
        resolved = self.path.resolve()
        return resolved.name if resolved.is_dir() else resolved.stem

    def file(self, name: str, scratch: Path) -> Path:
        """Return the path of a file; a zip's member is extracted to the folder ``scratch``."""
        path = self.path / self.members[name] if self.path.is_dir() else self._unpack(name, scratch)
        if path.stat().st_size == 0:
            raise DataError("the file is empty", self.path / self.members[name])
        return path

    @contextmanager
    def named_in_errors(self, scratch: Path) -> Iterator[None]:
        """Replace paths in the temporary folder ``scratch`` by those of the zip's members in errors."""
        try:
            yield
        except DataError as error:
            if error.path is None or error.path.parent != scratch:
                raise
            raise DataError(error.message, self.path / self.members[error.path.name], error.line) from error

    def _unpack(self, name: str, scratch: Path) -> Path:
        scratch.mkdir(parents=True, exist_ok=True)
        inside = self.members[name]
        with zipfile.ZipFile(self.path) as archive, (scratch / name).open("wb") as target:
            entry = archive.getinfo(inside)
            check_unpacked(entry.compress_size, entry.file_size, self.path / inside)
            try:
                with archive.open(entry) as member:
                    shutil.copyfileobj(member, target, 1 << 20)  # no more than the size that was checked
            except _DAMAGES as error:
                raise _damaged(self.path, f"{inside}: {error}") from error
            except OSError as error:
                if error.errno is not None:  # a disk error, not damaged content
                    raise
                raise _damaged(self.path, f"{inside}: {error}") from error
        return scratch / name


def open_source(path: Path) -> SourceFiles:
    """Open a folder or a zip; raises :class:`DataError` if it is neither, or the zip is damaged."""
    if path.is_dir():
        return SourceFiles(path, {entry.name: entry.name for entry in path.iterdir() if entry.is_file()})
    if not path.exists():
        raise DataError("no such folder or zip", path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty; expected a folder or a zip of MovieLens files", path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
    except zipfile.BadZipFile as error:
        raise _damaged(path, str(error)) from error
    shallow = [name for name in names if 1 <= len(name.parts) <= 2 and name.parts[0] != "__MACOSX"]
    return SourceFiles(
        path, {name.name: str(name) for name in sorted(shallow, key=lambda name: -len(name.parts))}
    )


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"not a complete zip ({reason}); delete it and fetch or copy it again", path)
