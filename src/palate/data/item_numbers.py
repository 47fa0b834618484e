"""Numbers of items: by first appearance in training, or as a file has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError
from palate.schema import Interactions, Ints

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


def first_appearances(interactions: Interactions, items: int) -> Ints:
    """Give items numbers by their first interaction, user after user; items without any come last.

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
    """Read item ids as the numbers that they are in the data, [I].

    Raises:
        DataError: One is not a whole number.
    """
    wrong = next((one for one in dataset.item_ids if not one.lstrip("-").isdecimal()), None)
    if wrong is not None:
        raise DataError(
            f"item ids that are whole numbers are needed, and {dataset.info.name} has {wrong!r}; number the items "
            "from the training data (largest-id:ids=training, generative.ids=sequential)",
            dataset.path,
        )
    return np.array([int(one) for one in dataset.item_ids], dtype=np.int64)
