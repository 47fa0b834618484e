"""Files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from palate.errors import DISK_FULL, DataError, OutputError, PalateError, output_error
from palate.system.locks import LOCK, beside, locked, place_of

PARTIAL = "partial"
_OF_RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers tell of an error of the system."""
_OF_TORCH = ("PytorchStreamWriter failed writing", "basic_ios::clear: iostream error")
"""How torch tells of a full disk."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Write a file in one piece, with its parent folders: a reader sees the old content or the new, no part.

    Yields the path at which the block, or a library that it calls, writes the new content. It has the old file's place
    when the block ends without an error. Who may read it follows the umask, whatever a library thinks of that.

    Raises:
        OutputError: The place cannot be written or the disk is full; the old file then stays.
    """
    path = Path(path)
    with locked(path, wait=True), telling_failed_writes(path):
        scratch = beside(path, PARTIAL)
        try:
            _remove(scratch)  # what a killed process left
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
                os.replace(partial, path)  # noqa: PTH105 - one name for the rename that tests make fail
            except OSError as error:
                raise output_error(error, path) from error
        finally:
            _remove(scratch)


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    """Write a file in one piece, see :func:`replacing`."""
    with replacing(path) as partial:
        try:
            partial.write_bytes(data)
        except OSError as error:
            raise output_error(error, path) from error


def write_text(path: Path | str, text: str) -> None:
    """:func:`write_bytes` for text, as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """:func:`write_bytes` for a JSON value, indented; NaN and infinity are refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_fresh(path: Path | str) -> None:
    """Raise :class:`OutputError` unless ``path`` is free: not there, or an empty folder."""
    path = Path(path)
    try:
        if not path.is_dir():
            if path.exists():
                raise OutputError(f"{path} is a file; name a new folder")
        elif any(path.iterdir()):
            _remove_leftovers_of(path.resolve())  # of a process that was killed when all was done
            raise OutputError(f"{path} is not empty; name a new folder, or remove this one first")
        elif path.is_mount():
            raise OutputError(f"{path} is a mount point, which cannot be replaced; name a folder inside it")
    except OSError as error:
        raise output_error(error, path) from error


def check_writable(folder: Path | str) -> None:
    """Raise :class:`OutputError` unless files can be made in a folder, or in what it will be made in."""
    place = Path(folder).absolute()  # links are not followed: one may lead to itself
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise output_error(error, folder) from error


@contextmanager
def fresh_folder(path: Path | str, resumable: bool = False) -> Iterator[Path]:
    """Build a folder beside ``path`` and rename it into place when the ``with`` block ends without an error.

    Yields the folder to write into. A block that fails leaves nothing behind, and what a killed process left
    is removed by the next one; with ``resumable`` the next one is given it, whatever ended the block but a fault
    in what was given. Who may read the files follows the umask.

    Raises:
        OutputError: Before the block, when ``path`` is not free, cannot be made or is being made by another process;
            after it, when the disk was full.
    """
    check_fresh(path)
    place = Path(path).resolve()
    with locked(place):
        check_fresh(path)  # whoever held it may have filled it
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
    """Remove what killed processes left in a folder of files that were being written; what is written now stays."""
    with suppress(OSError):
        for path in Path(folder).iterdir():
            if place := place_of(path, PARTIAL) or place_of(path, LOCK):
                _remove_leftovers_of(place)


@contextmanager
def telling_failed_writes(path: Path | str) -> Iterator[None]:
    """Turn what libraries that write on their own say of a full or barred disk into an :class:`OutputError`."""
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
    """The content of a file.

    Args:
        path: The file.
        missing: What the error says where there is no such file: what was expected, and what to do.

    Raises:
        DataError: It is not there, or this user may not read it.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise unreadable(error, path, missing) from error


def read_text(path: Path | str, missing: str) -> str:
    """:func:`read_bytes` as UTF-8 text; also raises :class:`DataError` where it is none."""
    try:
        return read_bytes(path, missing).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason} at byte {error.start})", path) from error


def check_readable(path: Path | str, missing: str) -> None:
    """Raise what :func:`read_bytes` raises, before a library reads the file in words of its own."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise unreadable(error, path, missing) from error


def iterated(folder: Path | str, missing: str) -> list[Path]:
    """What lies in a folder, by name; raises :class:`DataError` as :func:`read_bytes` does."""
    try:
        return sorted(Path(folder).iterdir())
    except OSError as error:
        raise unreadable(error, folder, missing) from error


def unreadable(error: OSError, path: Path | str, missing: str) -> DataError:
    """What to raise for a file that cannot be opened: being absent is another fault than being barred."""
    if isinstance(error, PermissionError):
        return DataError(
            f"cannot be read ({error.strerror}); let this user read it (chmod), or run as its owner", path
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return DataError(missing, path)
    if isinstance(error, IsADirectoryError):
        return DataError("is a folder, and a file is expected", path)
    return DataError(f"cannot be read ({error.strerror or error})", path)


def sha256_of(path: Path | str) -> str:
    """The checksum of a file's content as ``sha256:…``."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _follow_umask(folder: Path) -> None:
    """Let who may read the files of a folder be as for any other new file: some libraries keep theirs private."""
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
