"""Numbers that stand for items in text: by first appearance in training, or the dataset's numeric item ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError
from palate.schema import Interactions, Ints

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


def first_appearances(interactions: Interactions, items: int) -> Ints:
    """Assign numbers to items by their first interaction, user by user; items without interactions come last.

    Args:
        interactions: Training interactions.
        items: Number of items, I.

    Returns:
        Each item's number from 0, [I].
    """
    _, first = np.unique(interactions.item_index, return_index=True)
    appeared = interactions.item_index[np.sort(first)]
    number = np.full(items, -1, dtype=np.int64)
    number[appeared] = np.arange(len(appeared))
    number[number < 0] = np.arange(len(appeared), items)
    return number


def file_numbers(dataset: Dataset) -> Ints:
    """Parse the dataset's item ids as whole numbers, [I].

    Raises:
        DataError: An id is not a whole number.
    """
    wrong = next((one for one in dataset.item_ids if not one.lstrip("-").isdecimal()), None)
    if wrong is not None:
        raise DataError(
            f"item id {wrong!r} of {dataset.info.name}, expected whole numbers; number the items "
            "by the training data (largest-id:ids=training, generative.ids=sequential)",
            dataset.path,
        )
    return np.array([int(one) for one in dataset.item_ids], dtype=np.int64)
