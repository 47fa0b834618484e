"""Adapters of the universal user encoder to another, frozen backbone.

The network of the user encoder is kept. Names in the user prompt are token embeddings of the new backbone, and only
the adapter is trained: the vectors around the names, the projections of the user's state, and the task prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from palate.config.recipe import UniversalSettings
from palate.encoders.catalogue_free import UniversalEncoder
from palate.encoders.spoken import RATING_BUMPS
from palate.model.model import PersonalizedModel
from palate.model.start import start_task_prompt

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.backbones.source import BackboneSource
    from palate.config.recipe import ModelSettings
    from palate.encoders.spoken import NamesPrompt

HEADINGS = (" likes", " dislikes")
"""Words whose embeddings initialise the headings of liked and disliked names."""
LOW, HIGH = (" disliked", " worse"), (" liked", " better")
"""Words that initialise the ends of the scales of expected ratings, and of compared ones."""
COMMA, END, STATE = ",", ".", " user"
"""Words whose embeddings initialise the other vectors of the user prompt."""
FAINT = 0.1
"""Initial gain of the projections of the user's state, relative to a new layer, so that vectors start near words."""


def adapted(
    model: PersonalizedModel, backbone: Backbone, source: BackboneSource | None, settings: ModelSettings
) -> PersonalizedModel:
    """Return a model with another backbone, whose trainable weights are an adapter to it.

    Args:
        model: A model with a universal user encoder, whose weights stay frozen.
        backbone: The other backbone, whose weights stay frozen too.
        source: Source of the other backbone.
        settings: Length and text of the task prompt.

    Returns:
        The new model, bound to the same data.
    """
    encoder = model.settings.user_encoder
    assert isinstance(encoder, UniversalSettings)
    config = model.settings.model_copy(
        update={
            "user_encoder": encoder.model_copy(update={"plain_names": True}),
            "task_prompt": settings.task_prompt,
            "like_tokens": True,
            "backbone": source,
            "training": None,
        }
    )
    summary = None if config.unbound else model.summary
    other = PersonalizedModel(config, backbone, model.table, summary)
    own, theirs = other.user_encoder, model.user_encoder
    assert isinstance(own, UniversalEncoder)
    assert isinstance(theirs, UniversalEncoder)
    own.network = theirs.network
    _start_from_words(own.prompt, backbone)
    with torch.no_grad():
        own.prompt.query.copy_(theirs.prompt.query)
    if settings.task_prompt_text is not None:
        start_task_prompt(other, backbone, settings.task_prompt_text)
    return other.eval()


@torch.no_grad()
def _start_from_words(prompt: NamesPrompt, backbone: Backbone) -> None:
    """Initialise the vectors around the names from token embeddings of the backbone."""
    words = backbone.mean_embeddings([*HEADINGS, COMMA, END, STATE, *LOW, *HIGH])
    prompt.heading.copy_(words[:2, None].expand_as(prompt.heading))
    prompt.comma.copy_(words[2])
    prompt.end.copy_(words[3].expand_as(prompt.end))
    for project in (prompt.state, prompt.entity):
        project.weight.mul_(FAINT)
        project.bias.copy_(words[4])
    places = torch.linspace(-1, 1, RATING_BUMPS)
    for weight, low, high in zip(
        (prompt.entity.weight[:, -RATING_BUMPS:], prompt.compared.weight), words[5:7], words[7:], strict=True
    ):
        weight.copy_((high - low)[:, None] * places)
