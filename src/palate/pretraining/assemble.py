"""Assembles the packaged model of a pretrained network and a pretrained backbone, bound to no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.backbones.base import Backbone
from palate.config.recipe import TaskSettings, UniversalSettings
from palate.encoders.catalogue_free import UniversalEncoder
from palate.items.categories import CategoryTable
from palate.model.config import PersonalizedSettings
from palate.model.model import PersonalizedModel

if TYPE_CHECKING:
    from palate.encoders.universal import UniversalNetwork
    from palate.pretraining.language import Language


@torch.no_grad()
def assembled(
    network: UniversalNetwork, network_settings: UniversalSettings, language: Language
) -> PersonalizedModel:
    """Compose a model that knows no catalogue.

    Args:
        network: The pretrained network.
        network_settings: Its sizes.
        language: The pretrained backbone, with the user prompt and the task prompt.

    Returns:
        The model, whose answers are constrained; :meth:`PersonalizedModel.bind` gives it data.
    """
    names, settings = language.names, language.settings
    config = PersonalizedSettings(
        user_encoder=network_settings.model_copy(
            update={
                "most": names.most,
                "max_name_tokens": names.max_tokens,
                "pooled": settings.pooled,
            }
        ),
        task_prompt=settings.task_prompt,
        window=50,
        max_new_tokens=1,
        instruction="",
        task=TaskSettings(),
        category_field="category",
        categories=(),
        data_name="none",
        data_fingerprint="",
        grammar=True,
    )
    nothing = CategoryTable(
        [], [], np.zeros((0, 0), np.int16), (), np.zeros(0, np.float32), config.category_field
    )
    model = PersonalizedModel(config, Backbone(language.backbone, language.tokenizer), nothing)
    encoder = model.user_encoder
    assert isinstance(encoder, UniversalEncoder)
    encoder.network.load_state_dict(network.state_dict())
    encoder.prompt.load_state_dict(names.state_dict())
    model.task_prompt.copy_(language.task_prompt)
    return model.eval()
