"""What ``manifest.json`` of an export holds: its users' files, and what made and what reads them."""

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
"""The tensor in a user's file, named as in what a server's ``GET /users/{user_id}/prompt`` gives."""

DType: TypeAlias = Literal["float32", "bfloat16", "float16"]
WeightsFolder: TypeAlias = Literal["backbone", "adapter"]
Digest: TypeAlias = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class PromptFile(Frozen):
    """A file of one prompt."""

    path: Annotated[str, Field(pattern=r"^(users/[0-9]+\.safetensors|complete/[0-9]+-[0-9]+\.b64)$")]
    """Inside the export's folder."""
    shape: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
    """Vectors, and their size E."""
    sha256: Digest


class ExportedUser(Frozen):
    """The files of one user."""

    user_id: str
    user_prompt: PromptFile
    complete: tuple[PromptFile, ...]
    """One for each of the export's instructions, in their order."""

    @property
    def files(self) -> tuple[PromptFile, ...]:
        """All of them."""
        return (self.user_prompt, *self.complete)


class ModelIdentity(Frozen):
    """The model that made the prompts."""

    config: Digest
    weights: Digest
    data_name: str
    data_fingerprint: str
    """Of the data that it was trained on."""


class BackboneIdentity(Frozen):
    """The backbone that reads the prompts."""

    name: str | None
    """Where it was had from; None where the model holds all of it."""
    revision: str | None
    digest: Digest
    """Of its weights as they were loaded, without what LoRA adds."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """As it was loaded."""
    train: Literal["full", "lora", "frozen"]
    """What of it was trained: only a frozen one is the same wherever it comes from."""


class EngineWeights(Frozen):
    """The weights that were written beside the prompts."""

    folder: WeightsFolder
    """In the export's folder: ``backbone`` as transformers saves it, or ``adapter`` as peft does."""
    digest: Digest | None
    """Of the backbone's weights in the export's dtype; None for an adapter."""
    files: dict[Annotated[str, Field(pattern=r"^([\w-][\w.-]*/)*[\w-][\w.-]*$")], Digest]


class Generation(Frozen):
    """How the model itself generates after a complete prompt, in the words of a completions API."""

    max_tokens: int
    temperature: Literal[0] = 0
    stop_token_ids: tuple[int, ...]


class ExportManifest(Frozen):
    """What ``manifest.json`` of an export holds."""

    format: Literal[1] = 1
    made: datetime
    versions: dict[str, str]
    model: ModelIdentity
    backbone: BackboneIdentity
    data_fingerprint: str | None
    """Of the dataset whose users these are; None where all came from history files."""
    dtype: DType
    device: str | None = None
    """Where the prompts were computed; None in exports of earlier versions."""
    instructions: tuple[str, ...]
    generation: Generation | None
    """None for an encoder-decoder, which has no complete prompts."""
    weights: EngineWeights | None = None
    """None where the engine gets the backbone elsewhere."""
    users: tuple[ExportedUser, ...]

    @model_validator(mode="after")
    def _belongs_together(self) -> ExportManifest:
        if len({user.user_id for user in self.users}) < len(self.users):
            raise ValueError("a user stands in it twice")
        for user in self.users:
            if len(user.complete) != len(self.instructions):
                raise ValueError(f"user {user.user_id!r} has not one complete prompt for each instruction")
        if len({file.shape[1] for user in self.users for file in user.files}) > 1:
            raise ValueError("the prompts' vectors differ in size")
        return self


def check_weights(settings: PersonalizedSettings, weights: WeightsFolder | None) -> None:
    """Raise :class:`MismatchError` where there is no adapter to write."""
    source = settings.backbone
    if weights == "adapter" and (source is None or source.settings.train != "lora"):
        trained = "full" if source is None else source.settings.train
        raise MismatchError(
            f"an adapter comes from model.backbone.train: lora, and this model's is {trained}; export the whole "
            "backbone (--weights backbone)"
        )


def check_instructions(run: Path | str, instructions: Sequence[str]) -> None:
    """Raise :class:`MismatchError` for instructions to an encoder-decoder."""
    if instructions and not is_decoder_only(run):
        raise MismatchError(
            "complete prompts are for decoder-only backbones, and this one is an encoder-decoder, which vLLM's "
            "completions do not feed with embeddings; export without --instruction"
        )
