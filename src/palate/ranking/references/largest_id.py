"""The largest id: a control for ids that tell what comes next."""

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
    """Ids as the data has them, or numbers by first appearance in the training interactions."""


class LargestId:
    """Says that the next item is the one with the smallest id above all ids of the history.

    Where items were numbered by first appearance and test items included, it finds what no rule could know: the
    numbers leak the order of the test data. With numbers from training interactions alone it finds next to nothing.
    """

    def __init__(self, settings: LargestIdSettings) -> None:
        self._settings = settings
        self._number: Ints = np.empty(0, dtype=np.int64)  # [I]

    def fit(self, dataset: Dataset, dev_ndcg: DevNdcg) -> None:
        """Read the items' numbers; raises :class:`DataError` where ids are not whole numbers."""
        if self._settings.ids == "training":
            self._number = first_appearances(dataset.interactions, len(dataset.items))
            return
        self._number = file_numbers(dataset)

    def scores(self, windows: Windows, candidates: Indices | None = None) -> Floats:
        """Score the ids above the largest seen by how near they are, and those below it lowest."""
        seen = np.where(windows.mask, self._number[windows.item_index], np.iinfo(np.int64).min)
        beyond = self._number[None, :] - seen.max(axis=1, keepdims=True)
        lowest = np.ptp(self._number) + 1.0
        return picked(np.where(beyond > 0, -beyond, -lowest).astype(np.float64), candidates)
