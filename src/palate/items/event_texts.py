"""Embeddings of texts that users wrote about events, such as reviews, by the item encoder."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError
from palate.schema import EventTexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from palate.data.dataset import Dataset
    from palate.items.encoder import ItemEncoder, Progress
    from palate.schema import Floats, Ints

MOST_TEXT = 4_000
"""Maximum number of characters read of a text; the item encoder truncates further by tokens."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def with_event_texts(dataset: Dataset, encoder: ItemEncoder, progress: Progress | None = None) -> Dataset:
    """Return the dataset with embeddings of its review texts, which are cached like those of items.

    Raises:
        DataError: The dataset has no review texts.
    """
    reviews = dataset.review_texts
    if reviews is None:
        raise DataError(
            f"{dataset.info.name} has no review texts, which model.event_texts needs; prepare it with a column of "
            "texts (--review-col), or leave event_texts out",
            dataset.path,
        )
    texts = encoded_texts(reviews.to_list(), lambda distinct: encoder.encode(distinct, progress))
    return replace(dataset, interactions=replace(dataset.interactions, texts=texts))


def encoded_texts(
    texts: Iterable[str | None], encode: Callable[[Sequence[str]], Floats]
) -> EventTexts | None:
    """Encode each distinct text of N events once; None if there are no texts."""
    known: dict[str, int] = {"": 0}
    row: Ints = np.array([known.setdefault(text_read(one), len(known)) for one in texts], dtype=np.int64)
    if len(known) == 1:
        return None
    vectors = encode(list(known)[1:])
    return EventTexts(row, np.concatenate([np.zeros_like(vectors[:1]), vectors]))


def text_read(text: str | None) -> str:
    """Normalise a text for encoding: no control characters, single blanks, at most :data:`MOST_TEXT` characters."""
    return " ".join(_CONTROL.sub(" ", (text or "")[:MOST_TEXT]).split())
