"""Protocol of predictors."""

from __future__ import annotations

from typing import Protocol

from palate.schema import Ints, Windows


class Predictor(Protocol):
    """Predicts answers about users from their windows; the true labels are never passed."""

    @property
    def name(self) -> str:
        """Name in tables and files."""

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer for each of B users from their windows [B, P]."""
