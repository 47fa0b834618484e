"""The protocol of everything that answers."""

from __future__ import annotations

from typing import Protocol

from palate.schema import Ints, Windows


class Predictor(Protocol):
    """Answers about users from their windows. The truth is never passed."""

    @property
    def name(self) -> str:
        """What tables and files call it."""

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """One answer text for each of B users, whose windows are [B, P]."""
