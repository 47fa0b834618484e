"""Prompts for other engines: each user's prompt, and complete prompts for instructions, as files with a manifest."""

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

from palate.answer import with_new_items
from palate.errors import DataError, MismatchError
from palate.files import check_fresh, fresh_folder, write_text
from palate.machine import package_versions
from palate.model.ask import ends
from palate.model.events import windows_of
from palate.model.loading import weights_digest
from palate.model.personalized import load_model
from palate.prompts import (
    MANIFEST,
    USER_PROMPT,
    BackboneIdentity,
    DType,
    ExportedUser,
    ExportManifest,
    Generation,
    ModelIdentity,
    PromptFile,
    file_digests,
)

if TYPE_CHECKING:
    from torch import Tensor

    from palate.model.personalized import PersonalizedModel
    from palate.schema import History, Item

BATCH = 64


def export_prompts(
    run: Path | str,
    histories: Iterable[History],
    out: Path | str,
    *,
    instructions: Sequence[str] = (),
    dtype: DType = "float32",
    new_items: Mapping[str, Sequence[Item]] | None = None,
    data_fingerprint: str | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> ExportManifest:
    """Write the user prompts of all histories into a new folder, and complete prompts for each instruction.

    An empty instruction stands for what was trained. ``new_items`` are a user's items that the catalogue does not
    have, by user id; ``report`` is told how many users are done. The folder is there when all is, or not at all.

    Raises :class:`OutputError` for a folder that is not free, :class:`MismatchError` for instructions to an
    encoder-decoder, and :class:`DataError` for a user who comes twice and for histories that the model cannot read.
    """
    check_fresh(out)
    model = load_model(run)
    asked = tuple(dict.fromkeys(one or model.settings.instruction for one in instructions))
    if asked and model.frame is None:
        raise MismatchError(
            "complete prompts are for decoder-only backbones, and this one is an encoder-decoder, which vLLM's "
            "completions do not feed with embeddings; export without --instruction"
        )
    users: dict[str, ExportedUser] = {}
    with fresh_folder(out) as folder:
        for name in ("users", "complete")[: 2 if asked else 1]:
            (folder / name).mkdir()
        writer = _Writer(folder, getattr(torch, dtype))
        for batch, reader in _batches(model, Path(run), _each_once(histories), new_items or {}):
            for history, user_prompt, complete in _encoded(reader, batch, asked):
                users[history.user_id] = writer.user(history.user_id, len(users), user_prompt, complete)
            report(len(users))
        if not users:
            raise DataError("no users to export; name at least one")
        manifest = ExportManifest(
            made=datetime.now(timezone.utc).replace(microsecond=0),
            versions=package_versions(),
            model=_model_identity(run, model),
            backbone=_backbone_identity(model),
            data_fingerprint=data_fingerprint,
            dtype=dtype,
            instructions=asked,
            generation=_generation(model),
            users=tuple(users.values()),
        )
        write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def as_prompt_embeds(prompt: Tensor) -> str:
    """A complete prompt [T, E] as vLLM's completions take it in ``prompt_embeds``: base64 of what torch saves."""
    buffer = io.BytesIO()
    torch.save(prompt.detach().cpu().clone(), buffer)  # of a view, everything around it would be saved, too
    return base64.b64encode(buffer.getvalue()).decode("ascii")


class _Writer:
    """Writes a user's files and says what is in them."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.folder, self.dtype = folder, dtype

    def user(
        self, user_id: str, number: int, user_prompt: Tensor, complete: Sequence[Tensor]
    ) -> ExportedUser:
        """Write U_e [M, E] and complete prompts [T, E]; files are numbered, for an id may hold any character."""
        stored = self._cast(user_prompt, user_id)
        return ExportedUser(
            user_id=user_id,
            user_prompt=self._file(f"users/{number:06d}.safetensors", stored, save({USER_PROMPT: stored})),
            complete=tuple(
                self._file(f"complete/{number:06d}-{place}.b64", cast, as_prompt_embeds(cast).encode("ascii"))
                for place, cast in enumerate(self._cast(one, user_id) for one in complete)
            ),
        )

    def _cast(self, prompt: Tensor, user_id: str) -> Tensor:
        cast = prompt.to("cpu", self.dtype).contiguous()
        if not cast.isfinite().all():
            name = str(self.dtype).removeprefix("torch.")
            raise DataError(
                f"the prompt of user {user_id!r} has numbers that are not finite in {name}; use another dtype"
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
            raise DataError(f"user {history.user_id!r} comes twice; name each user once")
        seen.add(history.user_id)
        yield history


def _batches(
    model: PersonalizedModel, run: Path, histories: Iterable[History], new_items: Mapping[str, Sequence[Item]]
) -> Iterator[tuple[list[History], PersonalizedModel]]:
    """Histories over the model's own catalogue together, those with new items one by one."""
    own, rest = model.table, iter(histories)
    while batch := list(islice(rest, BATCH)):
        if known := [history for history in batch if not new_items.get(history.user_id)]:
            yield known, model.with_table(own)
        for history in batch:
            if items := new_items.get(history.user_id):
                yield [history], with_new_items(model.with_table(own), run, items)


@torch.inference_mode()
def _encoded(
    model: PersonalizedModel, histories: list[History], asked: Sequence[str]
) -> list[tuple[History, Tensor, list[Tensor]]]:
    """Each history with its user prompt [M, E] and its complete prompts [T, E]."""
    user = model.user_prompt(windows_of(histories, model.table, model.settings.window))
    complete = [model.complete(user, instruction) for instruction in asked]
    return [
        (
            history,
            user.embeddings[row][user.mask[row]],
            [one.embeddings[row][one.mask[row].bool()] for one in complete],
        )
        for row, history in enumerate(histories)
    ]


def _model_identity(run: Path | str, model: PersonalizedModel) -> ModelIdentity:
    config, weights = file_digests(run)
    name, fingerprint = model.settings.data_name, model.settings.data_fingerprint
    return ModelIdentity(config=config, weights=weights, data_name=name, data_fingerprint=fingerprint)


def _backbone_identity(model: PersonalizedModel) -> BackboneIdentity:
    source = model.settings.backbone
    if source is None:
        digest = weights_digest(model.backbone)
        return BackboneIdentity(name=None, revision=None, digest=digest, train="full")
    settings = source.settings
    return BackboneIdentity(
        name=settings.name, revision=settings.revision, digest=source.digest, train=settings.train
    )


def _generation(model: PersonalizedModel) -> Generation | None:
    if model.frame is None:
        return None
    stop = tuple(ends(model.backbone, model.frame))
    return Generation(max_tokens=model.settings.most_new_tokens, stop_token_ids=stop)
