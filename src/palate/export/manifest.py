"""Schema of an export's ``manifest.json``: the users' files, the model, and the backbone that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from palate.errors import MismatchError
from palate.model.config import is_decoder_only
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.model.config import PersonalizedSettings

MANIFEST = "manifest.json"
USER_PROMPT = "user_prompt"
"""Name of the tensor in a user's file, as in the server's ``GET /users/{user_id}/prompt``."""

DType: TypeAlias = Literal["float32", "bfloat16", "float16"]
WeightsFolder: TypeAlias = Literal["backbone", "adapter"]
API: TypeAlias = Literal["completions", "chat"]
"""Engine route for complete prompts: ``completions`` takes them whole, ``chat`` as message content without frame."""
Digest: TypeAlias = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class PromptFile(Frozen):
    """File of a prompt."""

    path: Annotated[str, Field(pattern=r"^(users/[0-9]+\.safetensors|complete/[0-9]+-[0-9]+\.b64)$")]
    """Path relative to the export's folder."""
    shape: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
    """Number of vectors, and their size E."""
    sha256: Digest


class ExportedUser(Frozen):
    """Files of one user."""

    user_id: str
    user_prompt: PromptFile
    complete: tuple[PromptFile, ...]
    """Complete prompts, one per instruction of the export."""

    @property
    def files(self) -> tuple[PromptFile, ...]:
        """All files of the user."""
        return (self.user_prompt, *self.complete)


class ModelIdentity(Frozen):
    """Model that computed the prompts."""

    config: Digest
    weights: Digest
    data_name: str
    data_fingerprint: str
    """Fingerprint of the training data, or of the dataset that the model is bound to."""
    population: Digest | None = None
    """Digest of the population's summary that the model is bound to; None for other models."""


class BackboneIdentity(Frozen):
    """Backbone that reads the prompts."""

    name: str | None
    """Hub name or folder; None if it is saved with the model."""
    revision: str | None
    digest: Digest
    """Digest of its weights as loaded, without LoRA."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the loaded weights."""
    train: Literal["full", "lora", "frozen"]
    """Trained weights; only a frozen backbone equals its source."""


class EngineWeights(Frozen):
    """Weights that were exported with the prompts."""

    folder: WeightsFolder
    """Folder in the export: ``backbone`` as saved by transformers, or ``adapter`` as saved by PEFT."""
    digest: Digest | None
    """Digest of the backbone's weights in the export's dtype; None for an adapter."""
    files: dict[Annotated[str, Field(pattern=r"^([\w-][\w.-]*/)*[\w-][\w.-]*$")], Digest]


class Generation(Frozen):
    """Generation parameters of the model, named as in a completions API."""

    max_tokens: int
    temperature: Literal[0] = 0
    stop_token_ids: tuple[int, ...]


class ExportManifest(Frozen):
    """Contents of an export's ``manifest.json``."""

    format: Literal[1] = 1
    made: datetime
    versions: dict[str, str]
    model: ModelIdentity
    backbone: BackboneIdentity
    data_fingerprint: str | None
    """Fingerprint of the users' dataset; None if all came from history files."""
    dtype: DType
    device: str | None = None
    """Device on which the prompts were computed; None in exports of earlier versions."""
    instructions: tuple[str, ...]
    api: API = "completions"
    generation: Generation | None
    """Generation parameters; None for an encoder-decoder, which has no complete prompts."""
    weights: EngineWeights | None = None
    """Exported weights; None if the engine loads the backbone from elsewhere."""
    users: tuple[ExportedUser, ...]

    @model_validator(mode="after")
    def _belongs_together(self) -> ExportManifest:
        if len({user.user_id for user in self.users}) < len(self.users):
            raise ValueError("duplicate user, expected each user once")
        for user in self.users:
            if len(user.complete) != len(self.instructions):
                raise ValueError(
                    f"user {user.user_id!r} has {len(user.complete)} complete prompts, expected "
                    f"{len(self.instructions)}, one for each instruction"
                )
        if len({file.shape[1] for user in self.users for file in user.files}) > 1:
            raise ValueError("the prompts' vectors have different sizes, expected one embedding size")
        return self


def check_weights(settings: PersonalizedSettings, weights: WeightsFolder | None) -> None:
    """Raise :class:`MismatchError` if an adapter is requested and the model was trained without LoRA."""
    source = settings.backbone
    if weights == "adapter" and (source is None or source.settings.train != "lora"):
        trained = "full" if source is None else source.settings.train
        raise MismatchError(
            f"only models with model.backbone.train: lora have an adapter, and this model has {trained}; export the "
            "whole backbone (--weights backbone)"
        )


def check_instructions(run: Path | str, instructions: Sequence[str]) -> None:
    """Raise :class:`MismatchError` for instructions with an encoder-decoder, which has no complete prompts."""
    if instructions and not is_decoder_only(run):
        raise MismatchError(
            "complete prompts are for decoder-only backbones, and this one is an encoder-decoder, for which vLLM "
            "takes no prompt embeddings; export without --instruction"
        )
