"""Schema of a saved model's ``config.json``, and checks of a model without loading its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from palate.backbones.source import ELSEWHERE, FRAME, BackboneSource
from palate.config.recipe import AnyTaskSettings, CausalSettings, UserEncoderSettings
from palate.config.registry import user_encoders
from palate.config.renames import MODEL, renamed_keys
from palate.config.section import UNKNOWN_KIND
from palate.data.event_types import EventTypes, Unrated
from palate.errors import DataError, MismatchError, faults
from palate.model.record import TrainingRecord
from palate.runs.run import run_folder
from palate.schema import ConditioningKind, Feedback
from palate.system.files import read_bytes
from palate.system.records import Frozen
from palate.tasks import load_task

if TYPE_CHECKING:
    from palate.data.dataset import DatasetInfo

CONFIG, WEIGHTS, BACKBONE, ITEMS, CARD = "config.json", "model.safetensors", "backbone", "items", "README.md"
POPULATION = "population.safetensors"
"""Files and folders of a saved model."""


class PersonalizedSettings(Frozen):
    """Configuration of a saved model: all that is needed to rebuild it, and its origin."""

    model_type: Literal["palate"] = "palate"
    format: Literal[1] = 1
    user_encoder: UserEncoderSettings
    task_prompt: int
    """Length K of the task prompt, in vectors."""
    window: int
    """Maximum number of most recent interactions that are read, for user encoders that do not read whole histories."""
    max_new_tokens: int
    """Maximum length of an answer, in tokens."""
    instruction: str
    """Instruction of the task that the model was trained on."""
    task: AnyTaskSettings
    category_field: str
    """Noun for a category, in the singular."""
    categories: tuple[str, ...]
    data_name: str
    data_fingerprint: str
    feedback: Feedback = "ratings"
    """Whether the data has ratings."""
    repeats: bool = False
    """Whether the data keeps all of a user's interactions with an item, instead of the last one only."""
    event_types: EventTypes | None = None
    """Weights of event types; None for data without types."""
    like_tokens: bool = False
    """Whether soft prompts are rescaled to the distance of token embeddings from their mean."""
    user_first: bool = False
    """Whether the task prompt is placed after the user prompt instead of before it."""
    conditioning: ConditioningKind = "prompt"
    """Whether user vectors are part of the prompt, or cross-attention layers in the backbone attend to them."""
    cross_attention_every: int = 1
    """With ``cross-attention``, a layer is added after every n-th layer of the backbone."""
    grammar: bool = False
    """Whether decoding is constrained by the task's grammar."""
    event_texts: bool = False
    """Whether texts of events, such as reviews, are read."""
    backbone: BackboneSource | None = None
    """Source of the backbone; None if it is saved with the model."""
    training: TrainingRecord | None = None
    """Record of the training; None for an untrained model, or one saved by an earlier version."""

    @property
    def binds(self) -> bool:
        """Whether the user encoder's weights are independent of the catalogue, so that it can be bound to any data."""
        return user_encoders.find(self.user_encoder.kind).reads == "categories"

    @property
    def unbound(self) -> bool:
        """Whether the model is not bound to data yet."""
        return not self.categories

    def over(self, info: DatasetInfo) -> PersonalizedSettings:
        """Return the settings of this model bound to another dataset."""
        return self.model_copy(
            update={
                "instruction": load_task(self.task, info).instruction,
                "category_field": info.category_field,
                "categories": info.categories,
                "data_name": info.name,
                "data_fingerprint": info.fingerprint,
                "feedback": info.feedback,
                "repeats": info.repeats,
                "event_types": info.event_types,
            }
        )

    @property
    def unrated(self) -> Unrated:
        """Value of an interaction without a rating, or weights of event types; None if ratings are required."""
        return None if self.feedback == "ratings" else self.event_types or 1.0

    @classmethod
    def load(cls, path: Path) -> PersonalizedSettings:
        """Load a saved model's ``config.json``.

        Raises:
            DataError: The file is missing, invalid, or written by an earlier version.
            MismatchError: The file names a user encoder or task that is not registered.
        """
        content = read_bytes(path, "no model here; expected a folder that 'palate train' finished")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            if any(fault["type"] == UNKNOWN_KIND for fault in error.errors()):
                raise MismatchError(f"{path}: {faults(error)}") from error
            if old := renamed_keys(error, MODEL, tags=("t5", "causal")):
                raise DataError(
                    f"{old}; this model was saved by an earlier version: train it again", path
                ) from error
            raise DataError(f"{faults(error)}; copy the model again", path) from error


def model_folder(run: Path | str) -> Path:
    """Return the model's folder of a run, or the folder itself if it holds a model."""
    found = run_folder(run)
    return found.model if found.model.is_dir() else found.path


def model_settings(run: Path | str) -> PersonalizedSettings:
    """Load the configuration of a run's model; raises :class:`DataError` if there is none."""
    return PersonalizedSettings.load(model_folder(run) / CONFIG)


def check_model(run: Path | str, backbone: str | None = None) -> PersonalizedSettings:
    """Check that a run's model is complete, without loading its weights.

    Args:
        run: A run's folder, or one of ``save_pretrained``.
        backbone: Folder of a backbone that is not saved with the model; None for the one that the model names.

    Returns:
        The model's configuration.

    Raises:
        DataError: The model is missing or incomplete.
        MismatchError: The backbone's folder is missing, or is given although it is saved with the model.
    """
    folder, settings = model_folder(run), model_settings(run)
    source = settings.backbone
    needed = [WEIGHTS, ITEMS] if source else [WEIGHTS, ITEMS, BACKBONE]
    for name in needed:
        if not (folder / name).exists():
            raise DataError("is missing; copy the model again", folder / name)
    if source is None:
        if backbone is not None:
            raise MismatchError(f"{run} has its own backbone; leave --backbone out")
    else:
        place = Path(source.settings.name if backbone is None else backbone).expanduser()
        if place.is_absolute() and not place.exists():
            was = "" if backbone is None else f", to replace {source.settings.name!r}"
            raise MismatchError(
                f"there is no backbone at {str(place)!r}{was}, which {run} was trained with; {ELSEWHERE}"
            )
    return settings


def is_decoder_only(run: Path | str) -> bool:
    """Return whether the backbone of a run's model is decoder-only, without loading it."""
    source = model_settings(run).backbone
    if source is not None:
        return isinstance(source.settings, CausalSettings)
    return (model_folder(run) / BACKBONE / FRAME).is_file()
