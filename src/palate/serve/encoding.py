"""The item encoder of a worker: one model, an in-memory LRU cache, and cancellation of abandoned requests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from palate.config.recipe import ItemSettings
from palate.items.encoder import ItemEncoder, Progress
from palate.schema import Floats
from palate.serve.waiting import acquired, check_awaited

if TYPE_CHECKING:
    import torch

KEPT = 20_000
"""Size of the in-memory LRU cache, in vectors."""
_MARK = b"mark"
BATCH = 16
"""Number of texts encoded between two checks whether the request was cancelled."""


class ServingEncoder(ItemEncoder):
    """Encoder of item texts in requests.

    The training's cache is read but not written, as a file for each new title would slow down every later request.
    Vectors of a cancelled request stay in the in-memory cache, so that a repeated request resumes.
    """

    def __init__(self, settings: ItemSettings, device: str | torch.device = "auto") -> None:
        super().__init__(settings, device)
        self._encoding = threading.Lock()
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """Encode texts, see :meth:`ItemEncoder.encode`; stops when the request is cancelled."""
        keys = [self._key(text) for text in texts or [""]]
        by_key = dict(zip(keys, texts or [""], strict=True))
        with acquired(self._encoding):
            if not len(self._cache):
                self._cache.refresh()
            found = {key: kept for key in by_key if (kept := self._known(key)) is not None}
            missing = sorted(by_key.keys() - found.keys(), key=lambda key: (len(by_key[key]), key))
            for start in range(0, len(missing), BATCH):
                check_awaited()
                batch = missing[start : start + BATCH]
                vectors = self._forward([by_key[key] for key in batch])
                found |= zip(batch, vectors, strict=True)
                self._kept |= zip(batch, vectors, strict=True)
                if progress is not None:
                    progress(start + len(batch), len(missing))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return np.stack([found[key] for key in keys])[: len(texts)]

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Drop cached vectors that are not used inside the block, if it ends without an error."""
        with acquired(self._encoding):
            self._kept[_MARK] = np.empty(0, np.float32)
            self._kept.move_to_end(_MARK)
        yield
        with acquired(self._encoding):  # vectors used inside the block come after the mark
            while _MARK in self._kept:
                self._kept.popitem(last=False)

    def _known(self, key: bytes) -> Floats | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        vector: Floats | None = self._cache.vectors([key])[0] if key in self._cache else None
        return vector
