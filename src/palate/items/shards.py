"""Encodes item texts by several processes, into the cache that trainings read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate.config.recipe import ItemSettings
from palate.items.encoder import CHUNK, ItemEncoder
from palate.system.engines import ShardEngine


@dataclass(frozen=True)
class EncodedPart:
    """Texts that make a chunk of the cache."""

    settings: ItemSettings
    texts: tuple[str, ...]
    device: str

    @property
    def done(self) -> bool:
        """Whether the texts were in the cache when the parts were made: never."""
        return False

    def run(self) -> int:
        """Encode the texts that are not in the cache by now; returns the number of texts."""
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

    Chunks and batches are those of one process, so that the vectors are, too, on processors of one kind.

    Args:
        settings: The encoder and its cache, a folder that all processes see.
        texts: The texts.
        engine: Encodes the chunks.
        device: Device of the encoders.
        progress: Callback (done, total) with numbers of texts.

    Returns:
        How many were not in the cache.

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
