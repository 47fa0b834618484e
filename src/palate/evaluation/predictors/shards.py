"""Answers of a model to batches of windows by several processes, each of which loads the model once."""

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
    """Compute in bfloat16 mixed precision during a block, if it is asked for."""
    if not bf16:
        return nullcontext()
    from torch import autocast, bfloat16  # which the model has loaded

    return autocast(model.device.type, bfloat16)


@dataclass(frozen=True)
class SavedModel:
    """A model in a folder that all processes see."""

    folder: Path
    backbone: str | None
    device: str
    constrained: bool

    @lru_cache(maxsize=1)  # noqa: B019 - a process answers by one model at a time
    def loaded(self) -> PersonalizedModel:
        """Load the model, once in each process."""
        from palate.model.model import load_model

        return load_model(self.folder, self.backbone, device=self.device, constrained=self.constrained)


@dataclass(frozen=True, eq=False)
class BatchOfWindows:
    """A batch of windows [B'] to be answered, the same whoever does it."""

    model: SavedModel
    bf16: bool
    rows: Ints  # [B'] among all windows
    windows: Windows

    @property
    def done(self) -> bool:
        """Whether the answers are known: never, as they are not kept."""
        return False

    def run(self) -> tuple[Ints, list[str]]:
        """Answer; returns the rows and their answers."""
        model = self.model.loaded()
        with mixed_precision(model, self.bf16):
            return self.rows, model.answer(self.windows)
