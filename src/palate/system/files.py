"""Atomic file and folder writes: content is written beside its destination and then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from palate.errors import DISK_FULL, DataError, OutputError, PalateError, output_error
from palate.system.locks import LOCK, beside, locked, place_of

PARTIAL = "partial"
_OF_RUST = re.compile(r"\(os error (\d+)\)")
"""Finds the error number in messages of safetensors and tokenizers."""
_OF_TORCH = ("PytorchStreamWriter failed writing", "basic_ios::clear: iostream error")
"""Parts of torch's messages for a failed write."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Replace a file atomically, creating its parent folders.

    Yields a temporary path for the new content. The file is renamed into place if the block ends without an error.
    Its permissions follow the umask, whatever a library sets.

    Raises:
        OutputError: The path is not writable or the disk is full; the old file is kept.
    """
    path = Path(path)
    with locked(path, wait=True), telling_failed_writes(path):
        scratch = beside(path, PARTIAL)
        try:
            _remove(scratch)  # left by a killed process
            scratch.mkdir()
            partial = scratch / path.name
            partial.touch()
            mode = partial.stat().st_mode
        except OSError as error:
            _remove(scratch)
            raise output_error(error, path) from error
        try:
            yield partial
            try:
                partial.chmod(mode)
                _to_disk(partial)
                os.replace(partial, path)  # noqa: PTH105 - tests patch this function to make renames fail
            except OSError as error:
                raise output_error(error, path) from error
        finally:
            _remove(scratch)


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    """Write a file atomically; see :func:`replacing`."""
    with replacing(path) as partial:
        try:
            partial.write_bytes(data)
        except OSError as error:
            raise output_error(error, path) from error


def write_text(path: Path | str, text: str) -> None:
    """Write text atomically as UTF-8, without newline translation."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Write indented JSON atomically; raises ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path | str, values: Iterable[Any]) -> None:
    """Write JSON lines atomically, one value per line."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def check_fresh(path: Path | str) -> None:
    """Raise :class:`OutputError` unless ``path`` does not exist or is an empty folder."""
    path = Path(path)
    try:
        if not path.is_dir():
            if path.exists():
                raise OutputError(f"{path} is a file; name a new folder")
        elif any(path.iterdir()):
            _remove_leftovers_of(path.resolve())  # of a process that was killed after the rename
            raise OutputError(f"{path} is not empty; name a new folder, or remove this one first")
        elif path.is_mount():
            raise OutputError(f"{path} is a mount point, which cannot be replaced; name a folder inside it")
    except OSError as error:
        raise output_error(error, path) from error


def check_writable(folder: Path | str) -> None:
    """Raise :class:`OutputError` unless a file can be created in a folder, or in its nearest existing parent."""
    place = Path(folder).absolute()  # does not follow links, which may be cyclic
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise output_error(error, folder) from error


@contextmanager
def fresh_folder(path: Path | str, resumable: bool = False) -> Iterator[Path]:
    """Create a folder atomically: it is filled beside ``path`` and renamed if the block ends without an error.

    Yields the folder to write into. A failed block leaves nothing behind; leftovers of a killed process are removed by
    the next call. With ``resumable``, the partial folder is kept and yielded again, unless the block raised an error
    about its input. Permissions follow the umask.

    Raises:
        OutputError: Before the block if ``path`` is not free, cannot be created or is being created by another
            process; after it if the disk is full.
    """
    check_fresh(path)
    place = Path(path).resolve()
    with locked(place):
        check_fresh(path)  # another process may have created it while this one waited
        partial = beside(place, PARTIAL)
        try:
            if not resumable:
                _remove(partial)
            partial.mkdir(exist_ok=resumable)
        except OSError as error:
            raise output_error(error, path) from error
        keep = resumable
        try:
            with telling_failed_writes(partial):
                yield partial
                check_fresh(path)
                _follow_umask(partial)
                _rename_folder(partial, place)
        except OutputError as error:
            raise OutputError(str(error).replace(str(partial), str(path))) from error
        except PalateError:
            keep = False
            raise
        finally:
            if not keep:
                _remove(partial)


def remove_leftovers(folder: Path | str) -> None:
    """Remove partial files of killed processes from a folder; those of running processes stay."""
    with suppress(OSError):
        for path in Path(folder).iterdir():
            if place := place_of(path, PARTIAL) or place_of(path, LOCK):
                _remove_leftovers_of(place)


@contextmanager
def telling_failed_writes(path: Path | str) -> Iterator[None]:
    """Convert libraries' errors about a full or read-only disk to :class:`OutputError`."""
    try:
        yield
    except PalateError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (error.errno in DISK_FULL or _inside(error.filename, Path(path))):
            raise output_error(error, path) from error
        said = _OF_RUST.search(str(error))
        if said is not None and (number := int(said[1])) in DISK_FULL | {errno.EROFS}:
            raise output_error(OSError(number, os.strerror(number)), path) from error
        if any(words in str(error) for words in _OF_TORCH):
            raise output_error(OSError(errno.ENOSPC, ""), path) from error
        raise


def read_bytes(path: Path | str, missing: str) -> bytes:
    """Read a file.

    Args:
        path: File to read.
        missing: Error message if the file does not exist: what was expected and what to do.

    Returns:
        The content.

    Raises:
        DataError: The file does not exist or is not readable.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise unreadable(error, path, missing) from error


def read_text(path: Path | str, missing: str) -> str:
    """Read a file as UTF-8; raises as :func:`read_bytes` does, and :class:`DataError` for invalid UTF-8."""
    try:
        return read_bytes(path, missing).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason} at byte {error.start})", path) from error


def check_readable(path: Path | str, missing: str) -> None:
    """Raise the errors of :func:`read_bytes` before a library opens the file and raises different ones."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise unreadable(error, path, missing) from error


def iterated(folder: Path | str, missing: str) -> list[Path]:
    """List a folder, sorted by name; raises as :func:`read_bytes` does."""
    try:
        return sorted(Path(folder).iterdir())
    except OSError as error:
        raise unreadable(error, folder, missing) from error


def unreadable(error: OSError, path: Path | str, missing: str) -> DataError:
    """Convert the OSError of a failed read to a :class:`DataError` with a remedy."""
    if isinstance(error, PermissionError):
        return DataError(
            f"cannot be read ({error.strerror}); let this user read it (chmod), or run as its owner", path
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return DataError(missing, path)
    if isinstance(error, IsADirectoryError):
        return DataError("is a folder, but a file is expected", path)
    return DataError(f"cannot be read ({error.strerror or error})", path)


def sha256_of(path: Path | str) -> str:
    """Compute the SHA-256 checksum of a file, as ``sha256:…``."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _follow_umask(folder: Path) -> None:
    """Set the permissions of a folder's files by the umask, because some libraries create private files."""
    probe = folder / f".{PARTIAL}"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode != mode:
            path.chmod(mode)


def _rename_folder(partial: Path, place: Path) -> None:
    if place.exists():
        place.rmdir()  # not every system renames onto an empty folder
    os.replace(partial, place)  # noqa: PTH105


def _remove_leftovers_of(place: Path) -> None:
    if beside(place, PARTIAL).exists() or beside(place, LOCK).exists():
        with suppress(OutputError), locked(place):
            _remove(beside(place, PARTIAL))


def _inside(name: Any, folder: Path) -> bool:
    return isinstance(name, (str, os.PathLike)) and Path(name).is_relative_to(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
