"""Model card of a recommender, saved as README.md with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import ModelCardData

from palate.words import counted

_CARD = """---
{metadata}
---

# A recommender

Lists the items of its catalogue that come next for a user, and{ratings} chooses among several, from the user's
history.

| | |
|---|---|
| learned from | {data_name} |
| catalogue | {items}, {categories} |
| scores | relations between items ({relations}){network} |
| new items | {new_items} |
| ratings | {scale} |{missing}

```python
import palate

recommender = palate.load_recommender("{name}")
history = palate.History("someone", item_ids={item_ids}, ratings={example_ratings}, timestamps=[0, 1])
print(recommender.recommend([history], k=5)[0])
```

On the command line `{name}` stands wherever a recommender's run does:

    palate recommend {name} --history me.json

**Limits.** It was made from the events of the data named here, whose licence and whose biases are that data's. It
holds the items with their texts and sums over users, and no user's history.
"""


@dataclass(frozen=True)
class RecommenderCardFacts:
    """Contents of a recommender's model card."""

    data_name: str
    items: int
    categories: int
    rating_values: Sequence[float]
    """The rating scale; empty where ratings are not predicted."""
    relations: Sequence[str]
    network: bool
    texts: bool
    item_ids: Sequence[str]
    """Two item ids, for the example."""
    example_ratings: Sequence[float]
    missing: Sequence[str] = ()
    """What the data lacks, and what cannot be answered therefore."""
    name: str = "this folder"
    """Where it is loaded from: a folder, or its name on the hub."""
    licence: str | None = None
    """Licence as the hub names it; the card has none where it is not given."""


def recommender_card(facts: RecommenderCardFacts) -> str:
    """Write the model card: what it was learned from, what it knows, usage and limitations."""
    rates = bool(facts.rating_values)
    scale = f"{facts.rating_values[0]:g} to {facts.rating_values[-1]:g}" if rates else "not predicted"
    return _CARD.format(
        metadata=_metadata(facts),
        name=facts.name,
        ratings=" predicts ratings and" if rates else "",
        data_name=facts.data_name,
        items=counted(facts.items, "item"),
        categories=counted(facts.categories, "category"),
        relations=", ".join(facts.relations),
        network=" and a network" if facts.network else "",
        new_items="by their texts and categories" if facts.texts else "by their categories",
        scale=scale,
        missing="".join(f"\n| lacks | {one} |" for one in facts.missing),
        item_ids=list(facts.item_ids),
        example_ratings=[float(one) for one in facts.example_ratings],
    )


def _metadata(facts: RecommenderCardFacts) -> str:
    """Write the metadata by which the hub lists a model, as YAML."""
    return ModelCardData(
        license=facts.licence,
        library_name="palate",
        tags=["recommendation", "recommender-system", "personalization"],
        model_name=facts.name,
    ).to_yaml()
