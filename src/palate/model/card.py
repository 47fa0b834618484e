"""The model card that a saved model carries as its README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.items.blocks import BlockTable

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

_CARD = """---
library_name: palate
tags: [personalization, soft-prompts, user-embeddings]
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
| trained on | {data_name} ({data_fingerprint}) |
| reads | {reads} |
| instruction | {instruction} |

```python
import palate

model = palate.load_model("this folder")
history = palate.History("someone", item_ids={item_ids}, ratings={ratings}, timestamps=[0, 1])
print(model.generate([history])[0])
```

**Limits.** It knows the items in `items/` (more can be added by their texts) and the instruction above. It was made
from the ratings of the dataset named here: whose licence and whose biases are the dataset's.
"""


def model_card(model: PersonalizedModel) -> str:
    """What the model is, what it was made from, how to use it and where it ends."""
    settings, table = model.settings, model.table
    return _CARD.format(
        kind=settings.user_encoder.kind,
        encoder_parameters=sum(weight.numel() for weight in model.user_encoder.parameters()),
        architecture=type(model.backbone).__name__,
        backbone_parameters=model.backbone.num_parameters(),
        source=_source(model),
        task_prompt=settings.task_prompt,
        item_encoder="none: items are read as text" if isinstance(table, BlockTable) else table.encoder.name,
        data_name=settings.data_name,
        data_fingerprint=settings.data_fingerprint[:19],
        reads=reading(model.max_events),
        instruction=settings.instruction,
        item_ids=table.item_ids[:2],
        ratings=[float(value) for value in table.rating_values[-2:]],
    )


def reading(max_events: int | None) -> str:
    """Say how much of a history a model reads."""
    return "the whole history" if max_events is None else f"the {max_events} most recent events"


def _source(model: PersonalizedModel) -> str:
    """How a backbone that is not in the folder was trained, and where it is had from."""
    source = model.settings.backbone
    return "" if source is None else f", {source.settings.train}, not in this folder: {source.settings.name}"
