"""Exported prompts, read and checked: what ``palate export`` wrote, by user."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load

from palate.errors import DataError, MismatchError, first_fault
from palate.files import sha256_of
from palate.model.loading import weights_digest
from palate.model.personalized import CONFIG, WEIGHTS, model_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

MANIFEST = "manifest.json"
USER_PROMPT = "user_prompt"
"""The tensor in a user's file, named as in what a server's ``GET /users/{user_id}/prompt`` gives."""

DType: TypeAlias = Literal["float32", "bfloat16", "float16"]
Digest: TypeAlias = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
_AGAIN = "run palate export again, into a new folder"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptFile(_Part):
    """A file of one prompt."""

    path: Annotated[str, Field(pattern=r"^(users/[0-9]+\.safetensors|complete/[0-9]+-[0-9]+\.b64)$")]
    """Inside the export's folder."""
    shape: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
    """Vectors, and their size E."""
    sha256: Digest


class ExportedUser(_Part):
    """The files of one user."""

    user_id: str
    user_prompt: PromptFile
    complete: tuple[PromptFile, ...]
    """One for each of the export's instructions, in their order."""


class ModelIdentity(_Part):
    """The model that made the prompts."""

    config: Digest
    weights: Digest
    data_name: str
    data_fingerprint: str
    """Of the data that it was trained on."""


class BackboneIdentity(_Part):
    """The backbone that reads the prompts."""

    name: str | None
    """Where it was had from; None where the model holds all of it."""
    revision: str | None
    digest: Digest
    """Of its weights as they were loaded, without what LoRA adds."""
    train: Literal["full", "lora", "frozen"]
    """What of it was trained: only a frozen one is the same wherever it comes from."""


class Generation(_Part):
    """How the model itself generates after a complete prompt, in the words of a completions API."""

    max_tokens: int
    temperature: Literal[0] = 0
    stop_token_ids: tuple[int, ...]


class ExportManifest(_Part):
    """What ``manifest.json`` of an export holds."""

    format: Literal[1] = 1
    made: datetime
    versions: dict[str, str]
    model: ModelIdentity
    backbone: BackboneIdentity
    data_fingerprint: str | None
    """Of the dataset whose users these are; None where all came from history files."""
    dtype: DType
    instructions: tuple[str, ...]
    generation: Generation | None
    """None for an encoder-decoder, which has no complete prompts."""
    users: tuple[ExportedUser, ...]

    @model_validator(mode="after")
    def _belongs_together(self) -> ExportManifest:
        if len({user.user_id for user in self.users}) < len(self.users):
            raise ValueError("a user stands in it twice")
        for user in self.users:
            if len(user.complete) != len(self.instructions):
                raise ValueError(f"user {user.user_id!r} has not one complete prompt for each instruction")
        if len({file.shape[1] for user in self.users for file in (user.user_prompt, *user.complete)}) > 1:
            raise ValueError("the prompts' vectors differ in size")
        return self


@dataclass(frozen=True, eq=False)
class Prompts:
    """An export's folder. Each file is checked when it is read; nothing in it is executed."""

    folder: Path
    manifest: ExportManifest

    @cached_property
    def _users(self) -> dict[str, ExportedUser]:
        return {user.user_id: user for user in self.manifest.users}

    @property
    def user_ids(self) -> list[str]:
        """Whose prompts there are."""
        return list(self._users)

    def user_prompt(self, user_id: str) -> Tensor:
        """A user's prompt [M, E].

        Raises :class:`DataError` for a user who is not there, and for a file that is not what the manifest says.
        """
        file = self._user(user_id).user_prompt
        path, content = self._content(file)
        try:
            tensors = load(content)
        except (SafetensorError, ValueError) as error:
            raise DataError(f"not safetensors ({error}); {_AGAIN}", path) from error
        prompt = tensors.get(USER_PROMPT)
        expected = f"one tensor {USER_PROMPT!r}, {self.manifest.dtype} {list(file.shape)}"
        if prompt is None or len(tensors) > 1:
            raise DataError(f"tensors {sorted(tensors)}, expected {expected}; {_AGAIN}", path)
        if prompt.dtype != getattr(torch, self.manifest.dtype) or tuple(prompt.shape) != file.shape:
            found = f"{str(prompt.dtype).removeprefix('torch.')} {list(prompt.shape)}"
            raise DataError(f"{found}, expected {expected}; {_AGAIN}", path)
        if not prompt.isfinite().all():
            raise DataError(f"numbers that are not finite; {_AGAIN}", path)
        return prompt

    def prompt_embeds(self, user_id: str, instruction: str | None = None) -> str:
        """The value of ``prompt_embeds`` in a request to vLLM, base64, for one of the export's instructions.

        Without an instruction, for the first. The text is compared with the manifest's checksum and not decoded.
        Raises :class:`DataError` as :meth:`user_prompt` does, and for an instruction that was not exported.
        """
        user, asked = self._user(user_id), self.manifest.instructions
        if not asked or (instruction is not None and instruction not in asked):
            there = "; ".join(map(repr, asked)) or "none"
            wanted = "an instruction" if instruction is None else repr(instruction)
            raise DataError(
                f"no complete prompt for {wanted}, there are: {there}; export with --instruction", self.folder
            )
        _, content = self._content(user.complete[0 if instruction is None else asked.index(instruction)])
        return content.decode("ascii")

    def check(self) -> None:
        """Read every file; raises :class:`DataError` for the first that is not what the manifest says."""
        for user_id in self.user_ids:
            self.user_prompt(user_id)
            for instruction in self.manifest.instructions:
                self.prompt_embeds(user_id, instruction)

    def check_backbone(self, backbone: nn.Module) -> None:
        """Raise :class:`MismatchError` unless these are the backbone's weights, loaded in float32."""
        if (found := weights_digest(backbone)) != self.manifest.backbone.digest:
            raise MismatchError(
                f"{self.folder} was made for a backbone whose weights are {self.manifest.backbone.digest[:19]}, "
                f"and those of this one are {found[:19]}; load the same one, in float32"
            )

    def _user(self, user_id: str) -> ExportedUser:
        try:
            return self._users[str(user_id)]
        except KeyError:
            raise DataError(
                f"no user {user_id!r} among the {len(self._users)} of this export; export with --user",
                self.folder,
            ) from None

    def _content(self, file: PromptFile) -> tuple[Path, bytes]:
        path = self.folder / file.path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror or error}); {_AGAIN}", path) from error
        if (found := f"sha256:{hashlib.sha256(content).hexdigest()}") != file.sha256:
            raise DataError(
                f"its checksum is {found[:19]}, expected {file.sha256[:19]}; copy the export again", path
            )
        return path, content


def read_prompts(folder: Path | str, run: Path | str | None = None) -> Prompts:
    """The prompts that ``palate export`` wrote into a folder; each file is checked when it is read.

    Raises :class:`DataError` when it is none, and :class:`MismatchError` when ``run`` is given and another model made
    them.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        manifest = ExportManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            "no manifest.json here; expected a folder that palate export wrote", folder
        ) from error
    except ValidationError as error:
        raise DataError(f"{first_fault(error)}; {_AGAIN}", path) from error
    if run is not None:
        found = file_digests(run)
        if found != (manifest.model.config, manifest.model.weights):
            raise MismatchError(
                f"{folder} was made by a model whose weights are {manifest.model.weights[:19]}, and those of {run} "
                f"are {found[1][:19]}; {_AGAIN}"
            )
    return Prompts(folder, manifest)


def file_digests(run: Path | str) -> tuple[str, str]:
    """sha256 of a run's config and weights; raises :class:`DataError` where there are none."""
    folder = model_folder(run)
    try:
        return sha256_of(folder / CONFIG), sha256_of(folder / WEIGHTS)
    except OSError as error:
        raise DataError("no model here; expected a folder that 'palate train' finished", folder) from error
