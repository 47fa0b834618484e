"""Adapters of the universal user encoder to another, frozen backbone.

The network of the user encoder is kept. Names in the user prompt are token embeddings of the new backbone, and only
the adapter is trained: the vectors around the names, the projections of the user's state, and the task prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from palate.config.recipe import UniversalSettings
from palate.encoders.catalogue_free import UniversalEncoder
from palate.encoders.estimates import on_scale
from palate.encoders.spoken import RATING_BUMPS
from palate.model.model import PersonalizedModel
from palate.model.start import start_task_prompt
from palate.tasks.questions import YES_NO

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.backbones.source import BackboneSource
    from palate.config.recipe import ModelSettings
    from palate.encoders.spoken import NamesPrompt
    from palate.model.token_like import TokenLike

HEADINGS = (" likes", " dislikes")
"""Words whose embeddings initialise the headings of liked and disliked names."""
UNDECIDED = 0.2
"""Difference from the threshold of liked labels, on a scale of width 1, at which the vector of an expected rating
starts with all of the step to "yes" or to "no"."""
SHARED, CONTRAST = 0.5, 2.0
"""Factors of what ratings as words have in common and of their differences, in the initial vector of a rating."""
BEST = 1.5
"""Slope of the initial share of a name's own embedding in its vector, over the difference from the others' scores."""
COMMA, END, STATE = ",", ".", " user"
"""Words whose embeddings initialise the other vectors of the user prompt."""
FAINT = 0.1
"""Initial gain of the projections of the user's state, relative to a new layer, so that vectors start near words."""


class RatingScale(NamedTuple):
    """Scale of the ratings that questions are about."""

    values: tuple[float, ...]
    """Ratings, ascending; at least two."""
    like_above: float
    """Rating above which an item or a category is liked."""


def adapted(
    model: PersonalizedModel,
    backbone: Backbone,
    source: BackboneSource | None,
    settings: ModelSettings,
    scale: RatingScale | None = None,
) -> PersonalizedModel:
    """Return a model with another backbone, whose trainable weights are an adapter to it.

    Args:
        model: A model with a universal user encoder, whose weights stay frozen.
        backbone: The other backbone, whose weights stay frozen too.
        source: Source of the other backbone.
        settings: Length and text of the task prompt.
        scale: Scale of the ratings that questions are about; None for data without ratings.

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
    if scale is not None:
        assert other.token_like is not None
        _start_from_answers(own.prompt, backbone, other.token_like, scale)
    with torch.no_grad():
        own.prompt.query.copy_(theirs.prompt.query)
    if settings.task_prompt_text is not None:
        start_task_prompt(other, backbone, settings.task_prompt_text)
    return other.eval()


@torch.no_grad()
def _start_from_words(prompt: NamesPrompt, backbone: Backbone) -> None:
    """Initialise the vectors around the names from token embeddings of the backbone, and the others near " user"."""
    words = backbone.mean_embeddings([*HEADINGS, COMMA, END, STATE])
    prompt.heading.copy_(words[:2, None].expand_as(prompt.heading))
    prompt.comma.copy_(words[2])
    prompt.end.copy_(words[3].expand_as(prompt.end))
    for project in (prompt.state, prompt.entity):
        project.weight.mul_(FAINT)
        project.bias.copy_(words[4])
    nn.init.zeros_(prompt.compared.weight)
    prompt.repeated.weight.copy_((0.5 + BEST * torch.linspace(-1, 1, RATING_BUMPS)).clamp(0, 1))


@torch.no_grad()
def _start_from_answers(prompt: NamesPrompt, backbone: Backbone, like: TokenLike, scale: RatingScale) -> None:
    """Initialise the vector of an expected rating from the answers that it implies, which the backbone can copy.

    It is an interpolation between the ratings as words, whose differences are amplified, as the embeddings of numbers
    are similar, plus a step from "no" to "yes". On its own, an average of the words would hardly depend on the rating.
    """
    places = torch.linspace(0, 1, RATING_BUMPS)
    yes, no, *ratings = (
        backbone.mean_embeddings([*YES_NO, *(f"{value:g}" for value in scale.values)]) - like.mean
    )
    words = torch.stack(ratings)
    common = words.mean(dim=0)
    known = on_scale(torch.tensor(scale.values), scale.values)
    least = on_scale(torch.tensor(scale.like_above), scale.values)
    above = torch.searchsorted(known, places).clamp(1, len(known) - 1)
    share = ((places - known[above - 1]) / (known[above] - known[above - 1]))[:, None]
    word = (1 - share) * words[above - 1] + share * words[above]
    liked = ((places - least) / UNDECIDED).clamp(-1, 1)[:, None]
    start = SHARED * common + CONTRAST * (word - common) + liked * (yes - no) / 2
    prompt.entity.weight[:, -RATING_BUMPS:] = (like.mean + start - prompt.entity.bias).T
