"""What items are called and which categories they have, where it is known: a model's own table holds vectors alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from palate.errors import PalateError
from palate.items.texts import dataset_items
from palate.model.config import PersonalizedSettings
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import History, Interactions, Item
from palate.tasks import CategoryPreference, load_task
from palate.tasks.statistics import CategoryStatistics, category_statistics

log = logging.getLogger("palate.serve")


class Catalogue:
    """The items of the dataset that a run was trained on, if it is found, and those added since.

    ``task`` is the label rule over the dataset's categories, and None where the dataset is not there.
    """

    def __init__(self, run: Path, settings: PersonalizedSettings, data: Path | None = None) -> None:
        self.task: CategoryPreference | None = None
        self._categories = {name: number for number, name in enumerate(settings.categories)}
        self._items: dict[str, Item] = {}
        try:
            dataset = dataset_of(load_run(run), data)
        except PalateError as error:
            log.info("titles and the rule are not shown: %s", error)
            return
        if dataset.info.fingerprint != settings.data_fingerprint:
            log.info(
                "titles and the rule are not shown: %s is not what the model was trained on", dataset.path
            )
            return
        self.task = load_task(settings.task, dataset.info)
        self.add(dataset_items(dataset))

    def add(self, items: Iterable[Item]) -> None:
        """Know these items as well; what is known stays as it is."""
        for item in items:
            self._items.setdefault(item.item_id, item)

    def title(self, item_id: str) -> str | None:
        """An item's title with its year."""
        item = self._items.get(item_id)
        return None if item is None else titled(item)

    def statistics(
        self, history: History, scale: Sequence[float], new_items: Sequence[Item] = ()
    ) -> CategoryStatistics:
        """What the label rule reads of one history: [1, L]."""
        known: Mapping[str, Item] = {**self._items, **{item.item_id: item for item in new_items}}
        matrix = np.zeros((len(history), len(self._categories)), dtype=np.bool_)
        for row, item_id in enumerate(history.item_ids):
            for name in known[item_id].categories if item_id in known else ():
                if name in self._categories:
                    matrix[row, self._categories[name]] = True
        values = np.asarray(scale, dtype=np.float32)
        rated = np.asarray(history.ratings, dtype=np.float32)
        interactions = Interactions(
            np.array([0, len(history)], dtype=np.int64),
            np.arange(len(history), dtype=np.int32),
            np.searchsorted(values, rated).astype(np.uint8),
            np.asarray(history.timestamps, dtype=np.int64),
        )
        return category_statistics(interactions, matrix, values)


def titled(item: Item) -> str:
    """A title as people write it: with the year, where there is one."""
    return item.title if item.year is None else f"{item.title} ({item.year})"
