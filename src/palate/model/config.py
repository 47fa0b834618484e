"""What ``config.json`` of a saved model holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from palate.backbones.source import ELSEWHERE, FRAME, BackboneSource
from palate.config.recipe import AnyTaskSettings, CausalSettings, UserEncoderSettings
from palate.config.renames import MODEL, renamed_keys
from palate.config.section import UNKNOWN_KIND
from palate.errors import DataError, MismatchError, faults
from palate.model.record import TrainingRecord
from palate.schema import Feedback
from palate.system.files import read_bytes
from palate.system.records import Frozen

CONFIG, WEIGHTS, BACKBONE, ITEMS, CARD = "config.json", "model.safetensors", "backbone", "items", "README.md"
"""What lies in a saved model's folder."""


class PersonalizedSettings(Frozen):
    """What is needed to build a model again, and what it was made from."""

    model_type: Literal["palate"] = "palate"
    format: Literal[1] = 1
    user_encoder: UserEncoderSettings
    task_prompt: int
    window: int
    """Most recent interactions that a user encoder reads which does not read whole histories."""
    max_new_tokens: int
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
            if old := renamed_keys(error, MODEL, tags=("t5", "causal")):
                raise DataError(
                    f"{old}; an earlier version saved this model: train it again", path
                ) from error
            raise DataError(f"{faults(error)}; copy the model again", path) from error


def model_folder(run: Path | str) -> Path:
    """Where the model of a run is, which may be the folder itself."""
    folder = Path(run)
    return folder / "model" if (folder / "model").is_dir() else folder


def model_settings(run: Path | str) -> PersonalizedSettings:
    """What a run's model was made from, without loading it; raises :class:`DataError` where there is none."""
    return PersonalizedSettings.load(model_folder(run) / CONFIG)


def check_model(run: Path | str, backbone: str | None = None) -> PersonalizedSettings:
    """Check what can be told of a run's model without loading it, and return what it was made from.

    Args:
        run: A run's folder, or one that ``save_pretrained`` wrote.
        backbone: Where a backbone that was not saved with it lies now, if it has moved.

    Raises:
        DataError: Where there is no whole model.
        MismatchError: For a backbone that is not where it was, and for one that is named and not needed.
    """
    folder, settings = model_folder(run), model_settings(run)
    source = settings.backbone
    needed = [WEIGHTS, ITEMS] if source else [WEIGHTS, ITEMS, BACKBONE]
    for name in needed:
        if not (folder / name).exists():
            raise DataError("is missing; copy the model again", folder / name)
    if source is None:
        if backbone is not None:
            raise MismatchError(f"{run} holds its backbone; leave --backbone out")
    else:
        place = Path(source.settings.name if backbone is None else backbone).expanduser()
        if place.is_absolute() and not place.exists():
            was = "" if backbone is None else f", in the place of {source.settings.name!r}"
            raise MismatchError(
                f"there is no backbone at {str(place)!r}{was}, which {run} was trained with; {ELSEWHERE}"
            )
    return settings


def is_decoder_only(run: Path | str) -> bool:
    """Whether the backbone of a run's model is a decoder-only one, without loading it."""
    source = model_settings(run).backbone
    if source is not None:
        return isinstance(source.settings, CausalSettings)
    return (model_folder(run) / BACKBONE / FRAME).is_file()
