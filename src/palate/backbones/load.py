"""Loads a backbone by its settings or from a saved model, and sets which of its weights are trained."""

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
    """Check that a backbone can be loaded, by loading only its config and tokenizer.

    Raises:
        MismatchError: It cannot be loaded.
        MissingExtraError: A required library is not installed.
    """
    if settings.train == "lora":
        require_peft()
    place = loadable_name(settings) if isinstance(settings, CausalSettings) else settings.name
    with telling(lambda reason: MismatchError(f"the backbone {settings.name!r} cannot be loaded ({reason})")):
        AutoConfig.from_pretrained(place, revision=settings.revision, trust_remote_code=False)
        AutoTokenizer.from_pretrained(place, revision=settings.revision, trust_remote_code=False)


def load_backbone(settings: PretrainedT5Settings | CausalSettings) -> tuple[Backbone, BackboneSource | None]:
    """Load a pretrained backbone and set which of its weights are trained.

    Args:
        settings: Its name, and whether all weights, LoRA adapters or none are trained.

    Returns:
        The backbone, and its source unless all weights are trained.

    Raises:
        MismatchError: It cannot be loaded.
        MissingExtraError: peft is not installed, for LoRA.
        RecipeError: ``lora_target_modules`` does not fit the model.
    """
    if settings.train == "lora":
        require_peft()
    backbone = load_causal(settings) if isinstance(settings, CausalSettings) else load_t5(settings)
    if settings.train == "full":
        return backbone, None
    # absolute, so that it does not depend on the working directory
    name = str(Path(settings.name).resolve()) if Path(settings.name).exists() else settings.name
    found = settings.model_copy(update={"name": name})
    source = BackboneSource(settings=found, digest=weights_digest(backbone.model))
    for weight in backbone.model.parameters():
        weight.requires_grad_(False)
    if settings.train == "lora":
        add_lora(backbone.model, settings)
    return backbone, source


def find_backbone(source: BackboneSource, name: str | None = None) -> Backbone:
    """Load the backbone that a saved model was trained with.

    Args:
        source: Its settings and the digest of its weights.
        name: Its hub name or folder now, if it has moved.

    Returns:
        The backbone.

    Raises:
        MismatchError: It cannot be loaded, or its weights differ.
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
    """Build a backbone from the files of :meth:`Backbone.save`, with random weights to be replaced.

    Raises:
        DataError: The files are missing or damaged.
    """
    for path in iterated(folder, "the backbone is missing; copy the model again"):
        check_readable(path, "the file is missing; copy the model again")
    return rebuild_causal(folder) if (folder / FRAME).exists() else rebuild_t5(folder)


def weights_digest(model: nn.Module) -> str:
    """Return the sha256 of a model's weights, independent of their files; tied weights count once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(json.dumps([name, list(weight.shape), str(weight.dtype)]).encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
