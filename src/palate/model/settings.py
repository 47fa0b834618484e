"""What ``config.json`` of a saved model holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.config import AnyTaskSettings, UserEncoderSettings
from palate.errors import DataError, MismatchError, faults
from palate.files import read_bytes
from palate.model.loading import BackboneSource
from palate.model.record import TrainingRecord
from palate.schema import Feedback
from palate.section import UNKNOWN_KIND


class PersonalizedSettings(BaseModel):
    """What is needed to build a model again, and what it was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["palate"] = "palate"
    format: Literal[1] = 1
    user_encoder: UserEncoderSettings
    task_prompt: int
    window: int
    """Most recent interactions that a user encoder reads which does not read whole histories."""
    most_new_tokens: int
    """Longest answer."""
    instruction: str
    task: AnyTaskSettings
    category_field: str
    categories: tuple[str, ...]
    data_name: str
    data_fingerprint: str
    feedback: Feedback = "ratings"
    """Whether the data's interactions have ratings."""
    like_tokens: bool = False
    user_first: bool = False
    """Whether the task prompt stands after the user prompt, and not before it."""
    backbone: BackboneSource | None = None
    """Where the backbone is had from; None where all of it is saved with the model."""
    training: TrainingRecord | None = None
    """How its training went; None where there was none, or where an earlier version saved the model."""

    @property
    def unrated(self) -> float | None:
        """What an interaction counts that comes without a rating; None where the data has ratings."""
        return 1.0 if self.feedback == "implicit" else None

    @classmethod
    def load(cls, path: Path) -> PersonalizedSettings:
        """Read a saved model's ``config.json``; raises :class:`DataError` when it is not whole."""
        content = read_bytes(path, "no model here; expected a folder that 'palate train' finished")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            if any(fault["type"] == UNKNOWN_KIND for fault in error.errors()):
                raise MismatchError(f"{path}: {faults(error)}") from error
            raise DataError(f"{faults(error)}; copy the model again", path) from error
