"""Export of user prompts, and of complete prompts for instructions, as files with a manifest."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from palate.backbones.causal import template_frame
from palate.backbones.load import weights_digest
from palate.config.recipe import CausalSettings
from palate.errors import DataError, MismatchError
from palate.export.journal import Journal, history_digest
from palate.export.manifest import (
    API,
    MANIFEST,
    USER_PROMPT,
    BackboneIdentity,
    DType,
    ExportedUser,
    ExportManifest,
    Generation,
    ModelIdentity,
    PromptFile,
    WeightsFolder,
    check_instructions,
    check_weights,
)
from palate.export.noted import note_export
from palate.export.read import file_digests
from palate.export.weights import write_weights
from palate.model.generation import ends
from palate.model.named import find_model
from palate.model.wording import check_instruction
from palate.system.device import describe_device
from palate.system.files import check_fresh, fresh_folder, write_text
from palate.system.machine import package_versions

if TYPE_CHECKING:
    from torch import Tensor

    from palate.data.dataset import Dataset
    from palate.model.model import PersonalizedModel
    from palate.schema import History, Item

BATCH = 64


def export_prompts(
    run: Path | str,
    histories: Iterable[History],
    out: Path | str,
    *,
    instructions: Sequence[str] = (),
    api: API = "completions",
    dtype: DType = "float32",
    weights: WeightsFolder | None = None,
    new_items: Mapping[str, Sequence[Item]] | None = None,
    data_fingerprint: str | None = None,
    report: Callable[[int], None] = lambda done: None,
    backbone: str | None = None,
    device: str | torch.device = "auto",
    data: Dataset | Path | None = None,
) -> ExportManifest:
    """Write the user prompts of all histories, and complete prompts for each instruction, to a new folder.

    The folder is created atomically; a repeated call resumes an interrupted export.

    Args:
        run: The run's folder, or ``packaged``.
        histories: One history per user.
        out: The new folder.
        instructions: Instructions for complete prompts; "" stands for the one that the model was trained with.
        api: Engine route of the complete prompts: ``completions``, or ``chat`` for message content, to which the
            engine adds its chat template.
        dtype: Data type of the prompts, that of the backbone in the engine.
        weights: Additional export of ``backbone``, with LoRA merged, or ``adapter``, the LoRA adapter; None for none.
        new_items: Items that are not in the catalogue, by user id.
        data_fingerprint: Fingerprint of the users' dataset; None if they come from history files.
        report: Called with the number of exported users.
        backbone: Folder of a backbone that is not saved with the model; None for the one that the model names.
        device: Device of the computation; ``auto`` takes the first GPU.
        data: Dataset that a model without its own catalogue is bound to.

    Returns:
        The manifest of the export.

    Raises:
        OutputError: The folder is not empty.
        MismatchError: Instructions with an encoder-decoder, an adapter without LoRA, messages without a chat
            template, or a backbone that attends to user vectors in its layers.
        DataError: A user occurs twice, or a history is invalid for the model.

    Example:
        >>> manifest = palate.export_prompts("runs/main", data.histories(["1", "2"]), "prompts")
        >>> manifest.users[0].user_prompt.shape
        (8, 32)
    """
    check_fresh(out)
    named = find_model(run, backbone, data)
    settings = named.settings
    if settings.conditioning != "prompt":
        raise MismatchError(
            f"the backbone of {run} attends to the user's vectors in its layers, and other engines read prompts only; "
            "train with model.conditioning=prompt to export"
        )
    check_weights(settings, weights)
    check_instructions(run, instructions)
    for instruction in filter(None, instructions):
        check_instruction(run, settings, instruction, backbone)
    asked = tuple(dict.fromkeys(one or settings.instruction for one in instructions))
    model = named.load(device)
    _check_api(model, api)
    manifest = ExportManifest(
        made=datetime.now(timezone.utc).replace(microsecond=0),
        versions=package_versions(),
        model=_model_identity(run, model),
        backbone=_backbone_identity(model),
        data_fingerprint=data_fingerprint,
        dtype=dtype,
        device=describe_device(model.device),
        instructions=asked,
        api=api,
        generation=_generation(model),
        users=(),
    )
    note_export(run, out, None if data is None else _folder_of(data))
    users: list[ExportedUser] = []
    with fresh_folder(out, resumable=True) as folder:
        writer = _Writer(folder, manifest, model, new_items or {})
        for batch in writer.batches(_each_once(histories)):
            users += writer.users(batch, len(users))
            report(len(users))
        if not users:
            raise DataError("no users to export; give at least one with --user or --split")
        files = None if weights is None else write_weights(model, weights, folder, dtype)
        manifest = manifest.model_copy(update={"users": tuple(users), "weights": files})
        write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        writer.journal.close(manifest)
    return manifest


def as_prompt_embeds(prompt: Tensor) -> str:
    """Encode a complete prompt [T, E] for vLLM's ``prompt_embeds``: base64 of a torch file."""
    buffer = io.BytesIO()
    torch.save(prompt.detach().cpu().clone(), buffer)  # saving a view would write its whole storage
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _check_api(model: PersonalizedModel, api: API) -> None:
    """Raise :class:`MismatchError` for ``chat`` with a model that was trained without its backbone's chat template."""
    if api == "chat" and (model.frame is None or model.frame != template_frame(model.tokenizer)):
        raise MismatchError(
            "engines add a chat template to messages, and this model was trained without one; export without "
            "--api chat, or train with model.backbone.chat=true"
        )


def _folder_of(data: Dataset | Path) -> Path | None:
    return data if isinstance(data, Path) else data.path


class _Writer:
    """Writer of users' files, which skips those that an interrupted export has written."""

    def __init__(
        self,
        folder: Path,
        manifest: ExportManifest,
        model: PersonalizedModel,
        new_items: Mapping[str, Sequence[Item]],
    ) -> None:
        self.folder, self.model, self.new_items = folder, model, new_items
        self.asked, self.dtype = manifest.instructions, getattr(torch, manifest.dtype)
        frame = None if manifest.api == "completions" else model.frame
        self.cut = (0, 0) if frame is None else (len(frame.opening), len(frame.closing))
        self.journal = Journal(folder, manifest)
        for name in ("users", "complete")[: 2 if self.asked else 1]:
            (folder / name).mkdir(exist_ok=True)

    def batches(self, histories: Iterable[History]) -> Iterator[list[History]]:
        """Batch the histories; one with new items gets a batch of its own, as it needs an extended catalogue."""
        rest = iter(histories)
        while batch := list(islice(rest, BATCH)):
            if known := [one for one in batch if not self.new_items.get(one.user_id)]:
                yield known
            yield from ([one] for one in batch if self.new_items.get(one.user_id))

    def users(self, batch: list[History], first: int) -> list[ExportedUser]:
        """Write the files of a batch, numbered from ``first`` because ids may contain any character."""
        new = self.new_items.get(batch[0].user_id, ())
        digests = {
            f"users/{number:06d}.safetensors": history_digest(one, new)
            for number, one in enumerate(batch, start=first)
        }
        users = self.journal.written(digests)
        if users is None:
            made = _encoded(self.model.with_items(new), batch, self.asked)
            users = [
                self._user(one.user_id, path, *prompts)
                for one, path, prompts in zip(batch, digests, made, strict=True)
            ]
            self.journal.add(users, digests)
        return users

    def _user(self, user_id: str, path: str, user_prompt: Tensor, complete: Sequence[Tensor]) -> ExportedUser:
        """Write the user prompt [M, E] and the complete prompts [T, E] of a user."""
        stored, number = self._cast(user_prompt, user_id), Path(path).stem
        return ExportedUser(
            user_id=user_id,
            user_prompt=self._file(path, stored, save({USER_PROMPT: stored})),
            complete=tuple(
                self._file(f"complete/{number}-{place}.b64", cast, as_prompt_embeds(cast).encode("ascii"))
                for place, cast in enumerate(self._cast(self._content(one), user_id) for one in complete)
            ),
        )

    def _content(self, prompt: Tensor) -> Tensor:
        """Remove the chat frame, which the engine's template adds, from a complete prompt [T, E]."""
        before, after = self.cut
        return prompt[before : len(prompt) - after]

    def _cast(self, prompt: Tensor, user_id: str) -> Tensor:
        cast = prompt.to("cpu", self.dtype).contiguous()
        if not cast.isfinite().all():
            name = str(self.dtype).removeprefix("torch.")
            raise DataError(
                f"the prompt of user {user_id!r} has values that are not finite in {name}; use another --dtype"
            )
        return cast

    def _file(self, path: str, prompt: Tensor, content: bytes) -> PromptFile:
        (self.folder / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return PromptFile(path=path, shape=(len(prompt), prompt.shape[1]), sha256=f"sha256:{digest}")


def _each_once(histories: Iterable[History]) -> Iterator[History]:
    seen = set()
    for history in histories:
        if history.user_id in seen:
            raise DataError(f"user {history.user_id!r} is given twice, expected once; name each user once")
        seen.add(history.user_id)
        yield history


@torch.inference_mode()
def _encoded(
    model: PersonalizedModel, histories: list[History], asked: Sequence[str]
) -> list[tuple[Tensor, list[Tensor]]]:
    """Compute the user prompt [M, E] and the complete prompts [T, E] of each history."""
    user = model.encode(histories)
    complete = [model.complete(user, instruction) for instruction in asked]
    return [
        (prompt, [one.embeddings[row][one.mask[row].bool()] for one in complete])
        for row, prompt in enumerate(user.split())
    ]


def _model_identity(run: Path | str, model: PersonalizedModel) -> ModelIdentity:
    config, weights = file_digests(run)
    name, fingerprint = model.settings.data_name, model.settings.data_fingerprint
    population = model.summary.digest if model.settings.binds else None
    return ModelIdentity(
        config=config,
        weights=weights,
        data_name=name,
        data_fingerprint=fingerprint,
        population=population,
    )


def _backbone_identity(model: PersonalizedModel) -> BackboneIdentity:
    source = model.settings.backbone
    if source is None:
        digest = weights_digest(model.backbone)
        return BackboneIdentity(name=None, revision=None, digest=digest, train="full")
    settings = source.settings
    return BackboneIdentity(
        name=settings.name,
        revision=settings.revision,
        digest=source.digest,
        dtype=settings.dtype if isinstance(settings, CausalSettings) else "float32",
        train=settings.train,
    )


def _generation(model: PersonalizedModel) -> Generation | None:
    if model.frame is None:
        return None
    stop = tuple(ends(model.backbone, model.frame))
    return Generation(max_tokens=model.settings.max_new_tokens, stop_token_ids=stop)
