"""Histories as sparse user-item matrices with weights by order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palate.recommend.event_weights import event_matrix

if TYPE_CHECKING:
    from scipy import sparse

    from palate.schema import Windows


def decayed_histories(windows: Windows, items: int, decay: float) -> sparse.csr_matrix:
    """Weight the items of B histories by order.

    Args:
        windows: Histories, oldest interaction first.
        items: Number of items I.
        decay: Factor of an item's weight for each newer one, from 0 to 1; the newest item has weight 1. Weights of
            repeated items add up.

    Returns:
        A sparse matrix, [B, I].
    """
    newer = np.maximum(windows.length[:, None] - 1 - np.arange(windows.item_index.shape[1]), 0)
    return event_matrix(windows, np.float64(decay) ** newer, items)
