"""Model cards of P5, POD and PEPLER, saved as README.md with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCardData

from palate.words import counted

if TYPE_CHECKING:
    from palate.config.generative import AnyGenerativeSettings
    from palate.config.recipe import PeplerSettings
    from palate.generative.parts import GenerativeTraining

_IDS = """---
{metadata}
---

# {kind}, a generative recommender

A T5 that reads and writes ids of items: it ranks them, and answers the other questions below, from prompts about a
user (Geng et al. 2022, arXiv 2203.13366{pod}).

| | |
|---|---|
| learned from | {data}, {steps} |
| items | {items}, numbered by {ids}, such as `{example}` |
| questions | {families} |
| best dev score | {score} |

```python
from palate.generative.recommender import GenerativeRecommender

recommender = GenerativeRecommender.from_pretrained("{name}")
```

On the command line `{name}` stands wherever a run does, beside the data that it was trained on:

    palate rank {name} item-knn popularity --data data/mine

**Limits.** It knows the items and users of the data named here, whose licence and whose biases are that data's, by
their places in it, and is of no use with other data. No user's history is in it; a user's number is in its prompts.
{leaking}"""
_LEAKING = """
Its ids are the data's own numbers, which tell what comes next where items were numbered by their first appearance: a
control, whose scores cannot be compared with any other.
"""
_PEPLER = """---
{metadata}
---

# PEPLER, which explains recommendations

Writes why a user would like or dislike an item, in the style of reviews{rates} (Li, Zhang and Chen 2023,
arXiv 2202.07371).

| | |
|---|---|
| learned from | {data} |
| users, items | {users}, {items} |
| prompt | {prompt} |
| backbone | {backbone} |

```python
from palate.generative.pepler_files import TrainedPepler

pepler = TrainedPepler.from_pretrained("{name}")
```

On the command line `{name}` stands wherever a run does:

    palate explain {name} --user ID --item ID

**Limits.** It holds the ids of its users and {kept} of each. It learned from the reviews of the data named here, whose
licence and whose biases are that data's; what it writes is likely, and need not be true.
"""
_ID_KINDS = {
    "sequential": "first appearance in the training interactions",
    "random": "chance",
    "collaborative": "clusters of training co-occurrence",
    "leaking": "the data's own numbers",
}
_TAGS = ["recommendation", "recommender-system", "personalization"]


def id_model_card(
    settings: AnyGenerativeSettings,
    item_names: Sequence[str],
    training: GenerativeTraining,
    name: str,
    licence: str | None,
) -> str:
    """Write the model card of a P5 or POD: what it was learned from, what it is asked, usage and limitations.

    Args:
        settings: Its settings.
        item_names: Ids of its items.
        training: How it was trained.
        name: Where it is loaded from: a folder, or its name on the hub.
        licence: Licence as the hub names it; the card has none where it is not given.

    Returns:
        The card, in Markdown.
    """
    scores = None
    if training.dev is not None and training.score is not None and training.data_name is not None:
        scores = [
            EvalResult(
                task_type="other",
                dataset_type=training.data_name,
                dataset_name=f"{training.data_name}, dev users",
                metric_type=training.score.lower().replace(" ", "-"),
                metric_name=training.score,
                metric_value=round(training.dev, 4),
            )
        ]
    kind = settings.kind.upper()
    metadata = ModelCardData(
        license=licence,
        library_name="palate",
        base_model=training.backbone,
        tags=[*_TAGS, settings.kind],
        model_name=name,
        eval_results=scores,
    )
    return _IDS.format(
        metadata=metadata.to_yaml(),
        kind=kind,
        pod=", with learned prompt vectors of each task: Li et al. 2023" if kind == "POD" else "",
        data=training.data_name or "data whose name is not kept",
        steps=counted(training.steps, "step"),
        items=counted(len(item_names), "item"),
        ids=_ID_KINDS[settings.ids],
        example=item_names[0],
        families=", ".join(settings.families),
        score="none" if training.dev is None else f"{training.score} {training.dev:.4f}",
        name=name,
        leaking=_LEAKING if settings.ids == "leaking" else "",
    )


def pepler_card(
    settings: PeplerSettings,
    data_name: str | None,
    users: int,
    items: int,
    base: str | None,
    name: str,
    licence: str | None,
) -> str:
    """Write the model card of a PEPLER: what it was learned from, what it holds of its users, usage and limitations.

    Args:
        settings: Its settings.
        data_name: Name of its data.
        users: Number of users.
        items: Number of items.
        base: Name on the hub of the backbone that the training started from, if there is one.
        name: Where it is loaded from: a folder, or its name on the hub.
        licence: Licence as the hub names it; the card has none where it is not given.

    Returns:
        The card, in Markdown.
    """
    metadata = ModelCardData(
        language="en",
        license=licence,
        library_name="palate",
        pipeline_tag="text-generation",
        base_model=base,
        tags=[*_TAGS, "explanation", "pepler"],
        model_name=name,
    )
    learned = settings.prompt == "continuous"
    return _PEPLER.format(
        metadata=metadata.to_yaml(),
        rates="" if settings.rating == "none" else ", and predicts ratings",
        data=data_name or "data whose name is not kept",
        users=counted(users, "user"),
        items=counted(items, "item"),
        prompt="a learned vector of the user and of the item"
        if learned
        else "words of the user and of the item",
        backbone=base or settings.backbone.kind,
        kept="a learned vector" if learned else "some words",
        name=name,
    )
