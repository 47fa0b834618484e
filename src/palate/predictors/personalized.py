"""The trained model as a predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palate.model.personalized import PersonalizedModel
    from palate.schema import Ints, Windows


class PersonalizedPredictor:
    """Answers of a :class:`PersonalizedModel`, ``batch_size`` windows at a time."""

    def __init__(self, model: PersonalizedModel, name: str, batch_size: int = 128) -> None:
        self.model, self.name, self.batch_size = model, name, batch_size

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """One answer a window; ``user_index`` [B] is not looked at, so unseen users are answered like any."""
        answers: list[str] = []
        for start in range(0, len(windows), self.batch_size):
            answers += self.model.answer(windows[start : start + self.batch_size])
        return answers
