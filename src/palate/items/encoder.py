"""The item encoder: a frozen sentence encoder with a cache, which encodes each distinct text once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from safetensors import SafetensorError

from palate.config.recipe import ItemSettings
from palate.errors import DataError, RecipeError
from palate.items.cache import VectorCache
from palate.items.encoder_files import checked_digest, encoder_folder
from palate.schema import Floats
from palate.system.caches import cache_folder

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from typing_extensions import Self

Progress: TypeAlias = Callable[[int, int], None]
"""Callback (done, total) with numbers of texts."""

CHUNK = 1024
"""Number of texts per chunk file of the cache: the maximum that a killed process loses."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Identity of an encoder: everything that changes its vectors.

    Identities compare equal if the vectors are equal, wherever a copy of the model comes from.
    """

    name: str = field(compare=False)
    """Hub name, folder or ``packaged:…``, as in the recipe."""
    revision: str | None = field(compare=False)
    content: str
    """sha256 of weights, tokenizer and the configuration of all modules, including pooling and normalisation."""
    max_seq_length: int
    dtype: str = "float32"

    @property
    def digest(self) -> str:
        """Hexadecimal sha256 of the compared fields."""
        return hashlib.sha256(f"{self.content} {self.max_seq_length} {self.dtype}".encode()).hexdigest()


class ItemEncoder:
    """Encodes item texts; the model is loaded only for texts that are not cached.

    Args:
        settings: The encoder and its cache folder.
        device: Device of the encoder; "auto" is the first GPU if there is one, else the CPU.
    """

    def __init__(self, settings: ItemSettings, device: str | torch.device = "auto") -> None:
        self.settings, self.device = settings, device

    @classmethod
    def of(cls, identity: EncoderIdentity, device: str | torch.device = "auto") -> Self:
        """Create the encoder of an identity; its :attr:`identity` shows whether its files are the same."""
        settings = ItemSettings(
            encoder=identity.name, revision=identity.revision, max_seq_length=identity.max_seq_length
        )
        return cls(settings, device)

    @cached_property
    def identity(self) -> EncoderIdentity:
        """Identity of the encoder; raises the errors of :func:`palate.items.encoder_files.encoder_folder`."""
        settings = self.settings
        content = checked_digest(settings.encoder, self._folder)
        return EncoderIdentity(settings.encoder, settings.revision, content, settings.max_seq_length)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """Encode texts.

        Texts that are not cached are encoded longest first, to reduce padding, and added to the cache every 1,024
        texts.

        Args:
            texts: N texts.
            progress: Callback (done, total) with numbers of texts.

        Returns:
            Vectors [N, S] in the order of the texts, float32.

        Raises:
            OutputError: The cache cannot be written.
            DataError: A vector is not finite.
        """
        if not texts:
            return self.encode([""])[:0]
        self._cache.refresh()
        keys = [self._key(text) for text in texts]
        while missing := {key: text for key, text in zip(keys, texts, strict=True) if key not in self._cache}:
            self._fill(missing, progress)  # repeated if the cached chunks turn out to be another encoder's
        return self._cache.vectors(keys)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """List the distinct texts that are not cached, in the order in which they are encoded."""
        self._cache.refresh()
        keys = {self._key(text): text for text in texts}
        return [keys[key] for key in _in_order({key: keys[key] for key in keys if key not in self._cache})]

    def fresh(self, texts: Sequence[str]) -> Floats:
        """Encode texts [N] without the cache, for texts that will not recur, [N, S]."""
        return self._forward(list(texts))

    @cached_property
    def _folder(self) -> Path:
        return encoder_folder(self.settings)

    @cached_property
    def _cache(self) -> VectorCache:
        root = self.settings.cache or cache_folder("item-vectors")
        return VectorCache(root.expanduser() / self.identity.digest[:16])

    @cached_property
    def _model(self) -> SentenceTransformer:
        from palate.system.device import find_device  # torch takes seconds to import, and is often not needed

        return _load_model(self._folder, self.settings.max_seq_length, find_device(self.device))

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.identity.digest} {text}".encode()).digest()

    def _fill(self, missing: dict[bytes, str], progress: Progress | None) -> None:
        self._cache.check_writable()
        keys = _in_order(missing)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            batches = []
            for first in range(0, len(chunk), self.settings.batch_size):
                batch = chunk[first : first + self.settings.batch_size]
                batches.append(self._forward([missing[key] for key in batch]))
                if progress is not None:
                    progress(start + first + len(batch), len(keys))
            self._cache.append(chunk, np.concatenate(batches))

    def _forward(self, batch: list[str]) -> Floats:
        vectors: Floats = self._model.encode(
            batch, batch_size=len(batch), convert_to_numpy=True, show_progress_bar=False
        ).astype(np.float32, copy=False)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            text = batch[int(np.argmin(finite))]
            raise DataError(
                f"the encoder's vector for {text[:60]!r} is not finite; download its weights again",
                self._folder,
            )
        return vectors


def _in_order(missing: dict[bytes, str]) -> list[bytes]:
    """Sort keys by the length of their texts, longest first, to reduce padding."""
    return sorted(missing, key=lambda key: (-len(missing[key]), key))


def _load_model(folder: Path, max_seq_length: int, device: torch.device) -> SentenceTransformer:
    """Load a sentence-transformers folder in float32."""
    from sentence_transformers import SentenceTransformer  # seconds to import, and often not needed

    try:
        with _without_loading_bar():
            model = SentenceTransformer(str(folder), device=str(device), local_files_only=True).float().eval()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError(
            f"items.encoder: {folder} is not a model that sentence-transformers can load ({reason})"
        ) from error
    longest = model.max_seq_length
    model.max_seq_length = max_seq_length if longest is None else min(max_seq_length, longest)
    return model


@contextmanager
def _without_loading_bar() -> Iterator[None]:
    """Disable transformers' progress bar during the block; the setting is global and restored afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
