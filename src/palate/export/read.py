"""Reading and verification of exported prompts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from palate.backbones.load import weights_digest
from palate.errors import DataError, MismatchError
from palate.export.manifest import MANIFEST, USER_PROMPT, ExportedUser, ExportManifest, PromptFile
from palate.model.config import CONFIG, WEIGHTS, model_folder
from palate.system.files import check_readable, read_bytes, sha256_of, unreadable
from palate.system.records import read_record

if TYPE_CHECKING:
    from torch import Tensor, nn

    from palate.export.manifest import DType

_AGAIN = "run palate export again, into a new folder"


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of an export. Files are verified when they are read, and never execute code.

    Args:
        folder: The export's folder.
        manifest: Its manifest.

    Example:
        >>> prompts = palate.read_prompts("prompts")  # doctest: +SKIP
        >>> prompts.user_prompt("42").shape  # doctest: +SKIP
        torch.Size([24, 128])
    """

    folder: Path
    manifest: ExportManifest

    @cached_property
    def _users(self) -> dict[str, ExportedUser]:
        return {user.user_id: user for user in self.manifest.users}

    @property
    def user_ids(self) -> list[str]:
        """Ids of the exported users."""
        return list(self._users)

    def user_prompt(self, user_id: str) -> Tensor:
        """Read a user prompt.

        Args:
            user_id: The user.

        Returns:
            The user prompt [M, E], in the export's dtype.

        Raises:
            DataError: The user was not exported, or the file does not match the manifest.
        """
        file = self._user(user_id).user_prompt
        path, content = self._content(file)
        try:
            tensors = load(content)
        except (SafetensorError, ValueError) as error:
            raise DataError(f"not a safetensors file ({error}); {_AGAIN}", path) from error
        prompt = tensors.get(USER_PROMPT)
        expected = f"one tensor {USER_PROMPT!r}, {self.manifest.dtype} {list(file.shape)}"
        if prompt is None or len(tensors) > 1:
            raise DataError(f"found the tensors {sorted(tensors)}, expected {expected}; {_AGAIN}", path)
        if prompt.dtype != getattr(torch, self.manifest.dtype) or tuple(prompt.shape) != file.shape:
            found = f"{str(prompt.dtype).removeprefix('torch.')} {list(prompt.shape)}"
            raise DataError(f"found {found}, expected {expected}; {_AGAIN}", path)
        if not prompt.isfinite().all():
            raise DataError(f"found values that are not finite; {_AGAIN}", path)
        return prompt

    def prompt_embeds(self, user_id: str, instruction: str | None = None) -> str:
        """Read a complete prompt for vLLM's ``prompt_embeds``.

        The text is verified by the manifest's checksum, but not decoded.

        Args:
            user_id: The user.
            instruction: One of the export's instructions; the first if None.

        Returns:
            The base64 text of ``prompt_embeds``.

        Raises:
            DataError: The user or the instruction was not exported, or the file does not match the manifest.
        """
        user, asked = self._user(user_id), self.manifest.instructions
        if not asked or (instruction is not None and instruction not in asked):
            there = "; ".join(map(repr, asked)) or "none"
            wanted = "an instruction" if instruction is None else repr(instruction)
            raise DataError(
                f"no complete prompt for {wanted}, expected one of: {there}; export with --instruction",
                self.folder,
            )
        _, content = self._content(user.complete[0 if instruction is None else asked.index(instruction)])
        return content.decode("ascii")

    def message(self, user_id: str, instruction: str | None = None) -> dict[str, Any]:
        """Read a complete prompt as a message of an engine's chat completions, which adds its chat template.

        Args:
            user_id: The user.
            instruction: One of the export's instructions; the first if None.

        Returns:
            The message, whose content is one part ``prompt_embeds``.

        Raises:
            MismatchError: The export was made for completions.
            DataError: As :meth:`prompt_embeds`.
        """
        if self.manifest.api != "chat":
            raise MismatchError(
                f"{self.folder} was exported for completions, with the chat frame around each prompt; export with "
                "--api chat"
            )
        part = {"type": "prompt_embeds", "data": self.prompt_embeds(user_id, instruction)}
        return {"role": "user", "content": [part]}

    def check(self) -> None:
        """Verify all files; raises :class:`DataError` for the first that does not match the manifest."""
        for user_id in self.user_ids:
            self.user_prompt(user_id)
            for instruction in self.manifest.instructions:
                self.prompt_embeds(user_id, instruction)
        if (weights := self.manifest.weights) is not None:
            for name, sha256 in weights.files.items():
                path = self.folder / weights.folder / name
                _check(path, _digest_of(path), sha256)

    def check_backbone(self, backbone: nn.Module) -> None:
        """Raise :class:`MismatchError` unless a backbone has the weights that the prompts were computed for.

        Valid are the backbone as loaded by palate, in its dtype, except with LoRA, and the exported backbone, in the
        export's dtype.
        """
        own, exported = self.manifest.backbone, self.manifest.weights
        there: dict[str, DType] = {} if own.train == "lora" else {own.digest: own.dtype}
        if exported is not None and exported.digest is not None:
            there[exported.digest] = self.manifest.dtype
        if not there:
            raise MismatchError(
                f"{self.folder} was exported for a backbone with LoRA, whose updates are not merged here; export "
                "with --weights backbone"
            )
        if (found := weights_digest(backbone)) not in there:
            expected = " or ".join(f"{digest[:19]} in {dtype}" for digest, dtype in there.items())
            raise MismatchError(
                f"{self.folder} was exported for a backbone with the weights {expected}, and this one has "
                f"{found[:19]}; load the same one, in the same dtype"
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
        content = read_bytes(path, f"the file is missing; {_AGAIN}")
        _check(path, f"sha256:{hashlib.sha256(content).hexdigest()}", file.sha256)
        return path, content


def read_prompts(folder: Path | str, run: Path | str | None = None) -> Prompts:
    """Open the prompts that ``palate export`` wrote.

    Args:
        folder: The export's folder.
        run: Run of the model that must have computed the prompts; None for no check.

    Returns:
        The prompts; each file is verified when it is read.

    Raises:
        DataError: The folder holds no export, or its manifest is invalid.
        MismatchError: The prompts are of another model.

    Example:
        >>> prompts = palate.read_prompts("prompts", run="runs/main")
        >>> prompts.user_prompt("1").shape
        torch.Size([8, 32])
    """
    folder = Path(folder)
    path = folder / MANIFEST
    missing = "no manifest.json here; expected a folder that palate export wrote"
    manifest = read_record(ExportManifest, path, missing, _AGAIN)
    if run is not None:
        found = file_digests(run)
        if found != (manifest.model.config, manifest.model.weights):
            raise MismatchError(
                f"{folder} was exported from a model with the weights {manifest.model.weights[:19]}, and {run} has "
                f"{found[1][:19]}; {_AGAIN}"
            )
    return Prompts(folder, manifest)


def _digest_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise unreadable(error, path, f"the file is missing; {_AGAIN}") from error


def _check(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"its checksum is {found[:19]}, expected {expected[:19]}; copy the export again", path
        )


def file_digests(run: Path | str) -> tuple[str, str]:
    """Return the SHA-256 of a run's config and of its weights; raises :class:`DataError` if one is missing."""
    folder = model_folder(run)
    for name in (CONFIG, WEIGHTS):
        check_readable(folder / name, "no model here; expected a folder that 'palate train' finished")
    return sha256_of(folder / CONFIG), sha256_of(folder / WEIGHTS)
