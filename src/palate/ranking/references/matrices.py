"""Histories as sparse matrices of users and items."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from palate.schema import Interactions, Windows


def user_item_matrix(interactions: Interactions, items: int) -> Any:
    """Return which of U users has which of I items, as a sparse matrix of ones [U, I]."""
    shape = (len(interactions.lengths), items)
    values = np.ones(len(interactions))
    matrix = sparse.csr_matrix((values, interactions.item_index, interactions.offsets), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def decayed_histories(windows: Windows, items: int, decay: float) -> Any:
    """Weight the items of B histories by their order.

    Args:
        windows: The histories, oldest first.
        items: Number of items, I.
        decay: Factor of an item's weight for each newer one, from 0 to 1: the newest item weighs 1. Repeated items
            add up.

    Returns:
        A sparse matrix, [B, I].
    """
    mask = windows.mask
    newer = (windows.length[:, None] - 1 - np.arange(mask.shape[1]))[mask]
    offsets = np.concatenate([[0], np.cumsum(windows.length)])
    shape = (len(windows), items)
    matrix = sparse.csr_matrix((decay**newer, windows.item_index[mask], offsets), shape=shape)
    matrix.sum_duplicates()
    return matrix
