"""Operating-system locks that let one process at a time write a file or folder."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import OutputError, output_error

LOCK = "lock"
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_LONGEST = 200
"""Maximum bytes kept of a name before a suffix is added; file systems allow 255."""


class Holder(BaseModel):
    """Contents of a lock file: the process that holds the lock."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: int
    host: str
    since: datetime
    command: str


class _Held(threading.local):
    def __init__(self) -> None:
        self.files: set[Path] = set()


_HELD = _Held()


@contextmanager
def locked(path: Path | str, *, wait: bool = False) -> Iterator[None]:
    """Lock a path during the block, against other processes and other threads.

    The operating system's lock is on a file beside the path. It is released when the process ends, for whatever
    reason, and the file is removed. It is reentrant within a thread. On a file system without locks, a warning is
    issued and the block runs unlocked.

    Args:
        path: File or folder to lock; it need not exist.
        wait: Wait for the lock, for short operations; otherwise raise if it is taken.

    Raises:
        OutputError: Another process holds the lock (the message names it), or the lock file is not writable.
    """
    place = Path(path).resolve()
    file = beside(place, LOCK)
    if file in _HELD.files:
        yield
        return
    with _parents(place):
        lock = _acquired(file, path, wait)
        _HELD.files.add(file)
        try:
            yield
        finally:
            _HELD.files.discard(file)
            if lock is not None:
                with suppress(OSError):  # Windows cannot remove an open file
                    file.unlink()  # while locked: a waiting process notices, and creates the file again
                lock.release()


def beside(place: Path, kind: str) -> Path:
    """Return the path of a temporary file beside a path, such as ``.out.lock``; long names are truncated."""
    name = place.name.encode()[:_LONGEST].decode(errors="ignore")
    return place.parent / f".{name}.{kind}"


def place_of(path: Path, kind: str) -> Path | None:
    """Invert :func:`beside`; None for a name of another form."""
    begin, end = ".", f".{kind}"
    name = path.name
    if not (name.startswith(begin) and name.endswith(end) and len(name) > len(begin) + len(end)):
        return None
    return path.with_name(name[len(begin) : -len(end)])


def _acquired(file: Path, path: Path | str, wait: bool) -> FileLock | None:
    lock = FileLock(file)
    try:
        lock.acquire(blocking=wait)
        with suppress(OSError):  # a full disk does not prevent the lock
            file.write_text(_this_process().model_dump_json() + "\n", encoding="utf-8")
    except Timeout:
        raise OutputError(
            f"{path} is in use by {_holder(file)}; wait until it ends, or name another place"
        ) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise output_error(error, path) from error
        warnings.warn(
            f"{path} is on a file system without locks: start no other process that writes there",
            stacklevel=4,
        )
        return None
    return lock


def _this_process() -> Holder:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return Holder(pid=os.getpid(), host=socket.gethostname(), since=now, command=command)


def _holder(file: Path) -> str:
    try:
        holder = Holder.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):  # taken a moment ago, and not written yet
        return "another process"
    since = holder.since.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {holder.pid} on {holder.host} since {since} ({holder.command[:200]})"


@contextmanager
def _parents(place: Path) -> Iterator[None]:
    """Create parent folders; new ones that are still empty afterwards are removed."""
    missing = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, place) from error
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
