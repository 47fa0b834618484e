"""The model card: README.md of a saved model, with the hub's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from palate.model.config import PersonalizedSettings
from palate.system.hub import is_hub_name
from palate.words import counted

_CARD = """---
{metadata}
---

# A personalised language model

Answers for a user from their history of rated items, which it reads as soft prompts
(User Embedding Module, Doddapaneni et al. 2024, arXiv 2401.04858).

| | |
|---|---|
| user encoder | {kind}, {encoder_parameters:,} parameters |
| backbone | {architecture}, {backbone_parameters:,} parameters{source} |
| task prompt | {task_prompt} vectors |
| item encoder | {item_encoder} |
| trained on | {trained_on} |
| reads | {reads} |
{instruction}
```python
import palate

{usage}
```

**Limits.** {limits}
"""
_BOUND = """model = palate.load_model("{name}")
history = palate.History("someone", item_ids={item_ids}, ratings={ratings}, timestamps=[0, 1])
print(model.generate([history])[0])"""
_UNBOUND = """data = palate.load_dataset("data/mine")  # written by palate prepare
model = palate.load_model("{name}", data=data)
print(model.generate(data.histories(data.user_ids[:1]))[0])"""
_BOUND_LIMITS = """\
The model knows the items in `items/` (more can be added by their texts) and the instruction above. It was
trained on the ratings of the dataset named here, whose licence and biases apply to it."""
_UNBOUND_LIMITS = """\
The weights depend on no catalogue: the model is bound to a dataset when it is loaded, and reads items by
their categories. It answers which categories a user likes and dislikes."""


@dataclass(frozen=True)
class CardFacts:
    """Values that are inserted into a model card."""

    settings: PersonalizedSettings
    encoder_parameters: int
    architecture: str
    """Class name of the backbone."""
    backbone_parameters: int
    item_encoder: str
    max_events: int | None
    item_ids: Sequence[str]
    """Two item ids, for the example."""
    ratings: Sequence[float]
    """Two ratings, for the example."""
    name: str = "this folder"
    """Source to load the model from: a folder, or its name on the hub."""
    licence: str | None = None
    """Licence of the model, by the hub's identifier; None for a card without licence."""


def model_card(facts: CardFacts) -> str:
    """Format the model card: description, training data, usage and limitations."""
    settings = facts.settings
    usage, limits = (_UNBOUND, _UNBOUND_LIMITS) if settings.unbound else (_BOUND, _BOUND_LIMITS)
    return _CARD.format(
        metadata=_metadata(facts),
        kind=settings.user_encoder.kind,
        encoder_parameters=facts.encoder_parameters,
        architecture=facts.architecture,
        backbone_parameters=facts.backbone_parameters,
        source=_source(settings),
        task_prompt=settings.task_prompt,
        item_encoder=facts.item_encoder,
        trained_on="simulated populations only, no ratings of real users"
        if settings.unbound
        else f"{settings.data_name} ({settings.data_fingerprint[:19]})",
        reads=reading(facts.max_events),
        instruction="" if settings.unbound else f"| instruction | {settings.instruction} |\n",
        usage=usage.format(name=facts.name, item_ids=facts.item_ids, ratings=facts.ratings),
        limits=limits,
    )


def _metadata(facts: CardFacts) -> str:
    """Format the hub's metadata of the model as YAML."""
    settings = facts.settings
    named = settings.backbone.settings.name if settings.backbone is not None else None
    scores = None
    if settings.training is not None:
        dev = settings.training.dev
        scores = [
            EvalResult(
                task_type="text-generation",
                dataset_type=settings.data_name,
                dataset_name=f"{settings.data_name}, {counted(dev.users, 'dev user')}",
                metric_type="f1",
                metric_name="liked F1",
                metric_value=round(dev.f1, 4),
            )
        ]
    return ModelCardData(
        language="en",
        license=facts.licence,
        library_name="palate",
        pipeline_tag="text-generation",
        base_model=named if named is not None and is_hub_name(named) else None,
        tags=["personalization", "soft-prompts", "user-embeddings", "recommendation"],
        model_name=facts.name,
        eval_results=scores,
    ).to_yaml()


def reading(max_events: int | None) -> str:
    """Describe how much of a history a model reads."""
    return "the whole history" if max_events is None else f"the {max_events} most recent events"


def _source(settings: PersonalizedSettings) -> str:
    """Describe the source and the training of a backbone that is not saved with the model."""
    source = settings.backbone
    return "" if source is None else f", {source.settings.train}, not in this folder: {source.settings.name}"
