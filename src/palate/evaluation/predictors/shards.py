"""Batches of windows answered by several processes, each of which loads the model once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.schema import Ints, Windows

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel


def mixed_precision(model: PersonalizedModel, bf16: bool) -> AbstractContextManager[Any]:
    """Return a context of bfloat16 mixed precision, or a no-op context if ``bf16`` is false."""
    if not bf16:
        return nullcontext()
    from torch import autocast, bfloat16  # already loaded by the model

    return autocast(model.device.type, bfloat16)


@dataclass(frozen=True)
class SavedModel:
    """A saved model in a folder that all processes can read."""

    folder: Path
    backbone: str | None
    device: str
    constrained: bool

    @lru_cache(maxsize=1)  # noqa: B019 - a process needs one model at a time
    def loaded(self) -> PersonalizedModel:
        """Load the model, once per process."""
        from palate.model.model import load_model

        return load_model(self.folder, self.backbone, device=self.device, constrained=self.constrained)


@dataclass(frozen=True, eq=False)
class BatchOfWindows:
    """A batch of windows [B'] to answer; the result does not depend on the process."""

    model: SavedModel
    bf16: bool
    rows: Ints  # [B'] indices among all windows
    windows: Windows

    @property
    def done(self) -> bool:
        """False, because answers are not stored."""
        return False

    def run(self) -> tuple[Ints, list[str]]:
        """Answer the batch; returns its rows and their answers."""
        model = self.model.loaded()
        with mixed_precision(model, self.bf16):
            return self.rows, model.answer(self.windows)
