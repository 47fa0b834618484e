"""A backbone by its settings, or from a saved model's folder; and how much of it is trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from palate.backbones.base import Backbone, telling
from palate.backbones.causal import load_causal, loadable_name, rebuild_causal
from palate.backbones.lora import add_lora, require_peft
from palate.backbones.source import ELSEWHERE, FRAME, BackboneSource
from palate.backbones.t5 import load_t5, rebuild_t5
from palate.config.recipe import CausalSettings, PretrainedT5Settings
from palate.errors import MismatchError
from palate.system.files import check_readable, iterated


def check_backbone(settings: PretrainedT5Settings | CausalSettings) -> None:
    """Check that a backbone can be had, by its config and its tokenizer alone.

    Raises:
        MismatchError: When it cannot be had.
        MissingExtraError: Without the libraries that it needs.
    """
    if settings.train == "lora":
        require_peft()
    place = loadable_name(settings) if isinstance(settings, CausalSettings) else settings.name
    with telling(lambda reason: MismatchError(f"the backbone {settings.name!r} cannot be had ({reason})")):
        AutoConfig.from_pretrained(place, revision=settings.revision, trust_remote_code=False)
        AutoTokenizer.from_pretrained(place, revision=settings.revision, trust_remote_code=False)


def load_backbone(settings: PretrainedT5Settings | CausalSettings) -> tuple[Backbone, BackboneSource | None]:
    """The backbone with what is to be trained of it; its source where not all of it is.

    Raises :class:`MismatchError` when it cannot be had, and :class:`MissingExtraError` without what LoRA needs.
    """
    if settings.train == "lora":
        require_peft()
    backbone = load_causal(settings) if isinstance(settings, CausalSettings) else load_t5(settings)
    if settings.train == "full":
        return backbone, None
    # a folder is found again from wherever the model is used
    name = str(Path(settings.name).resolve()) if Path(settings.name).exists() else settings.name
    found = settings.model_copy(update={"name": name})
    source = BackboneSource(settings=found, digest=weights_digest(backbone.model))
    for weight in backbone.model.parameters():
        weight.requires_grad_(False)
    if settings.train == "lora":
        add_lora(backbone.model, settings)
    return backbone, source


def find_backbone(source: BackboneSource, name: str | None = None) -> Backbone:
    """The backbone that a model was trained with, by the name it had then or by another.

    Raises :class:`MismatchError` when its weights are others.
    """
    settings = source.settings if name is None else source.settings.model_copy(update={"name": name})
    try:
        backbone, found = load_backbone(settings)
    except MismatchError as error:
        raise MismatchError(
            f"{error}; if the backbone that the model was trained with has moved, {ELSEWHERE}"
        ) from error
    if found is not None and found.digest != source.digest:
        raise MismatchError(
            f"the model was trained with the backbone {source.settings.name!r} whose weights are "
            f"{source.digest[:19]}, and those of {settings.name!r} are {found.digest[:19]}; "
            f"load it with the backbone it was trained with, and {ELSEWHERE}"
        )
    return backbone


def rebuild_backbone(folder: Path) -> Backbone:
    """The backbone whose config and tokenizer :meth:`Backbone.save` wrote, with random weights to be replaced.

    Raises :class:`DataError` when they are not whole.
    """
    for path in iterated(folder, "the backbone is missing; copy the model again"):
        check_readable(path, "the file is missing; copy the model again")
    return rebuild_causal(folder) if (folder / FRAME).exists() else rebuild_t5(folder)


def weights_digest(model: nn.Module) -> str:
    """sha256 of a model's weights, whatever files they came from; tied ones count once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(json.dumps([name, list(weight.shape), str(weight.dtype)]).encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
