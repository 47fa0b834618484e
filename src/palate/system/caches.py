"""Cache folders of palate and of the model hub."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

CACHES = {
    "item-vectors": "vectors of item texts",
    "gguf": "language models converted from GGUF files",
    "movielens": "downloaded MovieLens releases",
}
"""Folders of palate's user cache, and what each holds."""


@dataclass(frozen=True)
class Cache:
    """A cache folder and its size on disk."""

    holds: str
    path: str
    size_bytes: int | None
    """None if the folder does not exist."""
    free_bytes: int | None
    """Free space on its disk; None if unknown."""


def cache_folder(name: str) -> Path:
    """Return the path of one of :data:`CACHES`."""
    assert name in CACHES, name
    return platformdirs.user_cache_path("palate") / name


def list_caches() -> tuple[Cache, ...]:
    """Return palate's caches and the model hub's, which other programs share, with their sizes."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = [(holds, cache_folder(name)) for name, holds in CACHES.items()]
    places.append(("models of the hub, shared with other programs", Path(HF_HUB_CACHE)))
    return tuple(Cache(holds, str(path), _size(path), _free(path)) for holds, path in places)


def _size(folder: Path) -> int | None:
    """Sum the sizes of the files below a folder; links are not followed, because the hub's point to its own files."""
    if not folder.is_dir():
        return None
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed by another process
                total += (Path(parent) / name).lstat().st_size
    return total


def _free(folder: Path) -> int | None:
    there = next((place for place in (folder, *folder.parents) if place.is_dir()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None
