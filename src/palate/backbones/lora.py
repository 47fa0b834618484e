"""LoRA on a backbone: adding, merging and saving adapters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from palate.errors import RecipeError
from palate.system.extras import missing_extra, missing_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from palate.config.recipe import PretrainedSettings

OUTER = "base_model.model."
"""Prefix of the weight names in a PEFT adapter folder."""


def add_lora(model: PreTrainedModel, settings: PretrainedSettings) -> None:
    """Add LoRA adapters in float32 to a frozen model.

    Raises:
        RecipeError: ``lora_target_modules`` names modules that the model does not have, or that LoRA does not support.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = settings.lora_target_modules
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=2 * settings.lora_r if settings.lora_alpha is None else settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise RecipeError(f"model.backbone.lora_target_modules: {' '.join(str(error).split())}") from error
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def merge_lora(model: PreTrainedModel) -> None:
    """Merge the LoRA updates into the weights in float32 and remove the adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model.float()  # bfloat16 would round small updates away
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config


def save_lora(model: PreTrainedModel, folder: Path, base: str) -> None:
    """Save the LoRA adapter as a PEFT folder; ``base`` is the name of its base model."""
    from peft import get_peft_model_state_dict

    updates = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {OUTER + name: weight.contiguous() for name, weight in updates.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = copy.copy(model.peft_config["default"])
    config.base_model_name_or_path = base
    config.task_type = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    config.inference_mode = True
    config.target_modules = sorted(
        config.target_modules
    )  # a set has no order, and saved files must not differ
    config.save_pretrained(str(folder))


def require_peft() -> None:
    """Raise :class:`MissingExtraError` if peft is not installed."""
    if missing_modules("lora"):
        raise missing_extra("model.backbone.train: LoRA needs peft", "lora")
