"""Predictor of a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel
    from palate.schema import Ints, Windows


class PersonalizedPredictor:
    """Predicts with a :class:`PersonalizedModel`, in batches of windows of similar length."""

    def __init__(self, model: PersonalizedModel, name: str, batch_size: int = 128) -> None:
        self.model, self.name, self.batch_size = model, name, batch_size

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer per window; ``user_index`` [B] is ignored, so that unseen users are treated alike."""
        answers = [""] * len(windows)
        by_length = np.argsort(windows.length, kind="stable")
        for start in range(0, len(windows), self.batch_size):
            rows = by_length[start : start + self.batch_size]
            for row, answer in zip(rows, self.model.answer(windows[rows].trimmed()), strict=True):
                answers[row] = answer
        return answers
