"""Predictor of a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel
    from palate.schema import Doubles, Ints, Windows


class PersonalizedPredictor:
    """Predicts with a :class:`PersonalizedModel`, in batches of windows of similar length."""

    def __init__(self, model: PersonalizedModel, name: str, batch_size: int = 128) -> None:
        self.model, self.name, self.batch_size = model, name, batch_size

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer per window; ``user_index`` [B] is ignored, so that unseen users are treated alike."""
        answers = [""] * len(windows)
        for rows in self._batches(windows):
            for row, answer in zip(rows, self.model.answer(windows[rows].trimmed()), strict=True):
                answers[row] = answer
        return answers

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles | None:
        """Predict the user encoder's probabilities of the labels, [B, L, 2]; None if it has none."""
        from torch import inference_mode  # which the model has loaded

        chances = np.zeros((len(windows), len(self.model.settings.categories), 2))
        for rows in self._batches(windows):
            with inference_mode():
                found = self.model.user_prompt(windows[rows].trimmed()).category_chances
            if found is None:
                return None
            chances[rows] = found
        return chances

    def _batches(self, windows: Windows) -> Iterator[Ints]:
        by_length = np.argsort(windows.length, kind="stable")
        for start in range(0, len(windows), self.batch_size):
            yield by_length[start : start + self.batch_size]
