"""The largest id: a control that detects item ids which leak what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from palate.config.section import KindSettings
from palate.data.item_numbers import file_numbers, first_appearances
from palate.ranking.base import DevNdcg, picked
from palate.schema import Floats, Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class LargestIdSettings(KindSettings):
    """Settings of :class:`LargestId`."""

    kind: str = "largest-id"
    ids: Literal["file", "training"] = "file"
    """Ids as in the data, or numbers by first appearance in the training interactions."""


class LargestId:
    """Predicts the item with the smallest id above all ids of the history.

    If items were numbered by first appearance, test items included, the numbers leak the order of the test data, and
    this scores far above chance. With numbers from training interactions alone it finds next to nothing.
    """

    def __init__(self, settings: LargestIdSettings) -> None:
        self._settings = settings
        self._number: Ints = np.empty(0, dtype=np.int64)  # [I]

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Read the items' numbers; raises :class:`DataError` if ids are not whole numbers."""
        if self._settings.ids == "training":
            self._number = first_appearances(dataset.interactions, len(dataset.items))
            return
        self._number = file_numbers(dataset)

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score ids above the largest one seen, nearest first; all others get the lowest score."""
        seen = np.where(windows.mask, self._number[windows.item_index], np.iinfo(np.int64).min)
        beyond = self._number[None, :] - seen.max(axis=1, keepdims=True)
        lowest = np.ptp(self._number) + 1.0
        return picked(np.where(beyond > 0, -beyond, -lowest).astype(np.float64), candidates)
