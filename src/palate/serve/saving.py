"""Export of a store's users and items as files for ``palate prepare``, to train the next model on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.data.event_types import EventTypes
from palate.errors import MismatchError
from palate.items.texts import dataset_items
from palate.schema import Item
from palate.serve.store.store import StoredHistory, UserStore
from palate.system.files import fresh_folder

PAGE = 10_000
EVENTS, ITEMS = "events.jsonl", "items.jsonl"


@dataclass(frozen=True)
class Saved:
    """Numbers of users, events and items that were written."""

    users: int
    events: int
    items: int


def save_users(
    store: UserStore,
    dataset: Dataset,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Saved:
    """Write the events of all stored users, and the items of the dataset with those that were added since.

    Deleted users are not written, so that nothing about them enters the next model, its summary or its states.

    Args:
        store: The store.
        dataset: Dataset of the served model, with the items' texts.
        out: New folder for ``events.jsonl`` and ``items.jsonl``.
        progress: Called with the number of written users and their total.

    Returns:
        Counts of users, events and items.

    Raises:
        MismatchError: The data has event types; the store holds only their weights.
        OutputError: The folder exists, or cannot be written.
    """
    unrated = dataset.info.unrated
    if isinstance(unrated, EventTypes):
        raise MismatchError(
            f"{store.database.name} holds the weights of events, but not their types, which {dataset.path} has; "
            "prepare the next dataset from the original event files"
        )
    items = {item.item_id: item for item in dataset_items(dataset)}
    items = {**{item.item_id: item for item in store.items().items}, **items}
    ids = list(_all_users(store))
    events = 0
    with fresh_folder(out) as folder:
        with (folder / EVENTS).open("w", encoding="utf-8") as file:
            for done, user_id in enumerate(ids, start=1):
                rows = _rows(store.history(user_id), rated=unrated is None)
                events += _write(file, rows)
                progress(done, len(ids))
        with (folder / ITEMS).open("w", encoding="utf-8") as file:
            dated = any(item.year is not None for item in items.values())
            _write(file, (_fields(item, dated) for item in items.values()))
    return Saved(len(ids), events, len(items))


def _all_users(store: UserStore) -> Iterator[str]:
    after = 0
    while page := store.users_after(after, PAGE):
        yield from (user_id for _, user_id in page)
        after = page[-1][0]


def _rows(found: StoredHistory, rated: bool) -> Iterator[dict[str, Any]]:
    history = found.history
    for item_id, rating, timestamp in zip(history.item_ids, history.ratings, history.timestamps, strict=True):
        row = {"user_id": history.user_id, "item_id": item_id, "timestamp": timestamp}
        yield {**row, "rating": rating} if rated else row


def _fields(item: Item, dated: bool) -> dict[str, Any]:
    fields = {"item_id": item.item_id, "title": item.title, "categories": list(item.categories)}
    year = {"year": item.year} if dated else {}
    return {**fields, **year, "description": item.description}


def _write(file: Any, rows: Iterable[dict[str, Any]]) -> int:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    file.writelines(lines)
    return len(lines)
