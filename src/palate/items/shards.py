"""Encodes item texts in several processes into the shared vector cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate.config.recipe import ItemSettings
from palate.items.encoder import CHUNK, ItemEncoder
from palate.system.engines import ShardEngine


@dataclass(frozen=True)
class EncodedPart:
    """Work unit of a process: the texts of one cache chunk."""

    settings: ItemSettings
    texts: tuple[str, ...]
    device: str

    @property
    def done(self) -> bool:
        """Whether the texts were cached before; always False, as cached texts are not in any part."""
        return False

    def run(self) -> int:
        """Encode the texts that are not cached yet; returns the number of all texts."""
        ItemEncoder(self.settings, self.device).encode(self.texts)
        return len(self.texts)


def encode_by_shards(
    settings: ItemSettings,
    texts: Sequence[str],
    engine: ShardEngine,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Encode texts that are not in the cache yet.

    Chunks and batches are the same as with one process, and so are the vectors on processors of the same kind.

    Args:
        settings: The encoder and its cache, a folder shared by all processes.
        texts: The texts.
        engine: Engine that runs the chunks.
        device: Device of the encoders.
        progress: Callback (done, total) with numbers of texts.

    Returns:
        Number of texts that were not in the cache.

    Raises:
        OutputError: The cache cannot be written.
        DataError: A vector is not finite.
    """
    missing = ItemEncoder(settings, device).missing(texts)
    parts = [
        EncodedPart(settings, tuple(missing[start : start + CHUNK]), device)
        for start in range(0, len(missing), CHUNK)
    ]
    done = 0
    for number in engine.run(parts):
        done += number
        progress(done, len(missing))
    return len(missing)
