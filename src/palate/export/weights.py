"""Export of the weights that an engine needs in addition to the prompts: the backbone, or a LoRA adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from palate.backbones.base import save_tokenizer
from palate.backbones.load import weights_digest
from palate.backbones.lora import merge_lora, save_lora
from palate.errors import DataError
from palate.export.manifest import DType, EngineWeights, WeightsFolder
from palate.system.files import sha256_of

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel


def write_weights(model: PersonalizedModel, weights: WeightsFolder, out: Path, dtype: DType) -> EngineWeights:
    """Write ``backbone/``, with LoRA merged, or ``adapter/``; modifies the model, which cannot be used afterwards.

    Raises:
        DataError: A weight is out of the range of the dtype.
    """
    folder = out / weights
    shutil.rmtree(folder, ignore_errors=True)  # partial files of an interrupted export
    folder.mkdir()
    source, backbone = model.settings.backbone, model.backbone
    if weights == "adapter":
        assert source is not None, "see palate.export.manifest.check_weights"
        save_lora(backbone, folder, source.settings.name)
    else:
        if source is not None and source.settings.train == "lora":
            merge_lora(backbone)
        backbone.to(getattr(torch, dtype))
        _check_finite(model, dtype)
        backbone.save_pretrained(folder)
        save_tokenizer(model.tokenizer, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return EngineWeights(
        folder=weights,
        digest=weights_digest(backbone) if weights == "backbone" else None,
        files={path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
    )


def _check_finite(model: PersonalizedModel, dtype: DType) -> None:
    for name, weight in model.backbone.named_parameters():
        if not weight.isfinite().all():
            raise DataError(
                f"the backbone's {name} has values that are not finite in {dtype}; use another --dtype"
            )
