"""Files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from palate.errors import OutputError, PalateError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_ELSEWHERE = ("No space left on device", "PytorchStreamWriter failed writing")
"""How safetensors and torch put it."""


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a file in one piece, with its parent folders: a reader sees the old content or the new, no part.

    Raises :class:`OutputError` when the place cannot be written or the disk is full; the old file then stays.
    """
    path = Path(path)
    partial = _partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105 - one name for the rename that tests make fail
    except OSError as error:
        raise _output_error(error, path) from error
    finally:
        _remove(partial)


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
            raise OutputError(f"{path} is not empty; name a new folder, or remove this one first")
        elif path.is_mount():
            raise OutputError(f"{path} is a mount point, which cannot be replaced; name a folder inside it")
    except OSError as error:
        raise _output_error(error, path) from error


@contextmanager
def fresh_folder(path: Path | str, resumable: bool = False) -> Iterator[Path]:
    """Build a folder beside ``path`` and rename it into place when the ``with`` block ends without an error.

    Yields the folder to write into. A block that fails leaves nothing behind, and what a killed process left
    is removed by the next one; with ``resumable`` the next one is given it, whatever ended the block but a fault
    in what was given. Raises :class:`OutputError` before the block when ``path`` is not free or cannot be made, and
    after it when the disk was full.
    """
    check_fresh(path)
    place = Path(path).resolve()
    partial = _partial_of(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        left = _left_by_the_dead(place)
        taken_over = resumable and any(_taken_over(one, partial) for one in left)
        for one in left:
            if one != partial or not taken_over:
                _remove(one)
        partial.mkdir(exist_ok=taken_over)
    except OSError as error:
        raise _output_error(error, path) from error
    keep = resumable
    try:
        yield partial
        check_fresh(path)  # another process may have been faster
        _rename_folder(partial, place)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _output_error(error, path) from error
        raise
    except PalateError as error:
        keep = resumable and isinstance(error, OutputError)
        raise
    finally:
        if not keep:
            _remove(partial)


@contextmanager
def telling_full_disk(path: Path | str) -> Iterator[None]:
    """Turn what libraries that write on their own say of a full disk into an :class:`OutputError`."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _DISK_FULL
        if full or any(words in str(error) for words in _FULL_ELSEWHERE):
            raise OutputError(f"disk full while writing {path}: free space and run it again") from error
        raise


def sha256_of(path: Path | str) -> str:
    """The checksum of a file's content as ``sha256:…``."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


def _rename_folder(partial: Path, place: Path) -> None:
    if place.exists():
        place.rmdir()  # not every system renames onto an empty folder
    os.replace(partial, place)  # noqa: PTH105


def _left_by_the_dead(place: Path) -> list[Path]:
    """What dead processes left of this folder. Our own process id is a dead one's, used again."""
    prefix = f".{place.name}.partial-"
    partial = [path for path in place.parent.iterdir() if path.name.startswith(prefix)]
    pids = [path.name.removeprefix(prefix) for path in partial]
    return [
        path
        for path, pid in zip(partial, pids, strict=True)
        if pid.isdigit() and not _alive_elsewhere(int(pid))
    ]


def _taken_over(left: Path, partial: Path) -> bool:
    """Whether what was left is now this process's: of two that try one succeeds."""
    try:
        os.replace(left, partial)  # noqa: PTH105
    except OSError:
        return False
    return True


def _alive_elsewhere(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it lives, and belongs to someone else
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _output_error(error: OSError, path: Path | str) -> OutputError:
    if error.errno in _DISK_FULL:
        return OutputError(f"disk full while writing {path}: free space and run it again")
    return OutputError(f"cannot write {path}: {error.strerror or error}")
