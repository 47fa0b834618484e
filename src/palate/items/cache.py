"""On-disk cache of vectors in append-only chunk files; a killed process loses at most one chunk."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palate.errors import OutputError
from palate.schema import Floats
from palate.system.files import remove_leftovers, write_bytes

KEY_BYTES = 32
SUFFIX = ".safetensors"


class VectorCache:
    """Cache of vectors by key in a folder of chunk files, for one encoder identity.

    Chunks are immutable and named by the sha256 of their content: damaged chunks are detected, and processes that
    share the folder cannot overwrite each other's chunks, as they write different names or equal bytes. A damaged
    chunk, or one whose vectors differ in length from the rest, is reported in a warning, renamed and ignored; its keys
    count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._chunks: list[Floats] = []
        self._starts: list[int] = []  # of each chunk, in rows
        self._names: list[str] = []
        self._rows: dict[bytes, int] = {}
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def refresh(self) -> None:
        """Load the chunks written by any process since the last call."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name not in self._seen:
                self._read(path)

    def check_writable(self) -> None:
        """Raise :class:`OutputError` if chunks cannot be written, before vectors are computed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            remove_leftovers(self.folder)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: item vectors cannot be cached here ({error}); "
                "set items.cache to another folder"
            ) from error

    def append(self, keys: Sequence[bytes], vectors: Floats) -> None:
        """Write one chunk of n keys and vectors [n, S]; raises :class:`OutputError` if that fails.

        Existing chunks with vectors of another length are renamed: they are not from this encoder.
        """
        if not self._fits(vectors):
            self._forget()
        digests = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES)
        data = save({"keys": digests, "vectors": np.ascontiguousarray(vectors)})
        name = hashlib.sha256(data).hexdigest() + SUFFIX
        write_bytes(self.folder / name, data)
        self._seen.add(name)
        self._add(name, keys, vectors)

    def vectors(self, keys: Sequence[bytes]) -> Floats:
        """Return the vectors of cached keys, [N, S]."""
        rows = np.fromiter((self._rows[key] for key in keys), dtype=np.int64, count=len(keys))
        chunk_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        result = np.empty((len(keys), self._chunks[0].shape[1]), dtype=np.float32)
        for chunk in np.unique(chunk_of_row):
            here = chunk_of_row == chunk
            result[here] = self._chunks[chunk][rows[here] - self._starts[chunk]]
        return result

    def _read(self, path: Path) -> None:
        self._seen.add(path.name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # another process has just renamed it
            return
        except IsADirectoryError:  # blocks the name of a chunk that will be written again
            return self._put_aside(path)
        except OSError as error:
            warnings.warn(
                f"{path} cannot be read ({error.strerror}); its texts are encoded again", stacklevel=3
            )
            return
        if hashlib.sha256(data).hexdigest() != path.stem:
            return self._put_aside(path)
        try:
            chunk = load(data)
            digests, vectors = chunk["keys"], chunk["vectors"]
        except (SafetensorError, KeyError, ValueError):
            return self._put_aside(path)
        keyed = digests.dtype == np.uint8 and digests.shape == (*vectors.shape[:1], KEY_BYTES)
        if not keyed or not self._fits(vectors) or not np.isfinite(vectors).all():
            return self._put_aside(path)
        self._add(path.name, [key.tobytes() for key in digests], vectors)

    def _fits(self, vectors: Floats) -> bool:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            return False
        return not self._chunks or vectors.shape[1] == self._chunks[0].shape[1]

    def _forget(self) -> None:
        for name in self._names:
            self._put_aside(self.folder / name)
        self._chunks, self._starts, self._names, self._rows = [], [], [], {}

    def _add(self, name: str, keys: Sequence[bytes], vectors: Floats) -> None:
        start = self._starts[-1] + len(self._chunks[-1]) if self._chunks else 0
        self._starts.append(start)
        self._chunks.append(vectors)
        self._names.append(name)
        self._rows.update(zip(keys, range(start, start + len(keys)), strict=True))

    def _put_aside(self, path: Path) -> None:
        warnings.warn(f"{path} is damaged; it is ignored and its texts are encoded again", stacklevel=2)
        try:
            path.rename(path.with_name(path.name + ".damaged"))
        except OSError:  # a read-only folder: the warning is repeated next time
            return
