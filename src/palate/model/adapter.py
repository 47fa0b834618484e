"""Adapters: a model without a catalogue speaks through another language model, which is not trained.

The user encoder keeps its network. Names stand in the user prompt as the other backbone's own token embeddings, and
what is trained is the adapter alone: the vectors around them, the projections of the user's state, the task prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from palate.config.recipe import UniversalSettings
from palate.encoders.catalogue_free import UniversalEncoder
from palate.model.model import PersonalizedModel
from palate.model.start import start_task_prompt

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.backbones.source import BackboneSource
    from palate.config.recipe import ModelSettings
    from palate.encoders.spoken import NamesPrompt

HEADINGS = (" likes", " dislikes")
"""Words that the headings of the two halves start from."""
COMMA, END, STATE = ",", ".", " user"
"""Words that the other vectors of the user prompt start from."""
FAINT = 0.1
"""Initial gain of the user's state, relative to that of a new layer: at first the vectors are words."""


def adapted(
    model: PersonalizedModel, backbone: Backbone, source: BackboneSource | None, settings: ModelSettings
) -> PersonalizedModel:
    """Return a model with another backbone, whose trainable weights are an adapter to it.

    Args:
        model: A model whose weights know no catalogue, none of which is trained.
        backbone: The other backbone, whose weights are not trained either.
        source: Its source.
        settings: Length and text of the task prompt.

    Returns:
        The model, bound to what it was bound to.
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
    """Initialise the vectors around the names from the backbone's tokens."""
    words = backbone.mean_embeddings([*HEADINGS, COMMA, END, STATE])
    prompt.heading.copy_(words[:2, None].expand_as(prompt.heading))
    prompt.comma.copy_(words[2])
    prompt.end.copy_(words[3].expand_as(prompt.end))
    for project in (prompt.state, prompt.entity):
        project.weight.mul_(FAINT)
        project.bias.copy_(words[4])
