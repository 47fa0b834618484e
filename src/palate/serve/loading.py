"""Bulk loading of a prepared dataset's users into a user store, for ``palate store load``."""

from __future__ import annotations

import gc
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palate.data.dataset import Dataset
from palate.data.storage import INTERACTIONS_FILE
from palate.errors import DataError, MismatchError
from palate.model.config import ITEMS, check_model, model_folder
from palate.model.tables import load_table
from palate.recommend.files import is_recommender, load_recommender
from palate.schema import History
from palate.serve.store.changes import AHEAD, Event
from palate.serve.store.store import UserStore
from palate.words import counted

AT_ONCE = 20_000
"""Approximate number of events per transaction; an interruption loses at most one transaction."""


@dataclass(frozen=True)
class Loaded:
    """Numbers of loaded users, of events that were new to the store, and of events that it had already."""

    users: int
    new: int
    known: int


def load_users(
    dataset: Dataset,
    store: UserStore,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Loaded:
    """Add all events of a dataset's users to a store.

    Event ids are digests of the content, which makes loading idempotent: a repeated call resumes an interrupted load,
    and a dataset that was prepared again adds only its newer events.

    Args:
        dataset: The dataset.
        store: The store, which may hold users already.
        progress: Called with the number of loaded events and their total.

    Returns:
        Counts of users and events.

    Raises:
        MismatchError: The store holds events of items, or ratings, that the dataset does not have.
        DataError: An event's time is in the future.
        StoreError: The store is unavailable, locked or full.
    """
    check_times(dataset)
    _check_store(dataset, store)
    users = new = known = 0
    total = len(dataset.interactions)
    with _garbage_collector_paused():
        for part in _parts(dataset):
            taken = store.append({history.user_id: _events(history) for history in part})
            users += len(taken)
            new += sum(one.new for one in taken.values())
            known += sum(one.known for one in taken.values())
            progress(new + known, total)
    return Loaded(users, new, known)


def check_same_catalogue(run: Path | str, dataset: Dataset) -> None:
    """Raise :class:`MismatchError` unless a run's model knows the items and ratings of a dataset.

    Args:
        run: Run of a language model or a recommender; a model that is not bound to a catalogue fits any dataset.
        dataset: The dataset.
    """
    if is_recommender(run):
        recommender = load_recommender(run)
        known, scale = set(recommender.item_ids), recommender.facts.rating_values
        titles = dict(zip(recommender.items["item_id"], recommender.items["title"], strict=True))
    else:
        settings, titles = check_model(run), {}
        if settings.unbound:
            return
        table = load_table(settings.user_encoder, model_folder(run) / ITEMS)
        known, scale = set(table.item_ids), tuple(float(one) for one in table.rating_values)
    where = f"{dataset.path} is of another catalogue than {run}"
    if unknown := [one for one in dataset.item_ids if one not in known]:
        raise MismatchError(
            f"{where}, which does not know {counted(len(unknown), 'item')} of it, such as {unknown[0]!r}; give the "
            "dataset that the run was trained on, or train again"
        )
    for item_id, title in dataset.items.select("item_id", "title").iter_rows():
        if titles.get(item_id, title) != title:
            raise MismatchError(
                f"{where}: the item {item_id!r} is {title!r} here and {titles[item_id]!r} there; give the "
                "dataset that the run was trained on"
            )
    if unknown_values := sorted(set(dataset.info.rating_values) - set(scale)):
        raise MismatchError(
            f"{where}: the rating {unknown_values[0]:g} is not on its scale {', '.join(f'{one:g}' for one in scale)}; "
            "give the dataset that the run was trained on, or train again"
        )


def check_times(dataset: Dataset) -> None:
    """Raise :class:`DataError` for an event in the future, which a store would refuse."""
    events, latest = dataset.interactions, int(time.time()) + AHEAD
    ahead = np.flatnonzero(events.timestamp > latest)
    if len(ahead):
        user = int(np.searchsorted(events.offsets, ahead[0], side="right")) - 1
        raise DataError(
            f"user {dataset.user_ids[user]!r}, item {dataset.item_ids[events.item_index[ahead[0]]]!r}: the time "
            f"{events.timestamp[ahead[0]]} is in the future ({counted(len(ahead), 'event')} in all), expected at "
            f"most {latest} seconds since 1970, a day from now; correct the times and prepare the data again",
            (dataset.path or Path()) / INTERACTIONS_FILE,
        )


def _check_store(dataset: Dataset, store: UserStore) -> None:
    known = {*dataset.item_ids, *(item.item_id for item in store.items()[0])}
    if unknown := [one for one in store.event_items() if one not in known]:
        raise MismatchError(
            f"{store.database.name} is of another catalogue than {dataset.path}, which does not have "
            f"{counted(len(unknown), 'item')} of its events, such as {unknown[0]!r}; name another --store"
        )
    if wrong := sorted(set(store.event_ratings()) - set(dataset.info.rating_values)):
        raise MismatchError(
            f"{store.database.name} is of another catalogue than {dataset.path}: it holds the rating {wrong[0]:g}, "
            f"expected one of {', '.join(f'{one:g}' for one in dataset.info.rating_values)}; name another --store"
        )


@contextmanager
def _garbage_collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector, which would search the events of each transaction for cycles in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parts(dataset: Dataset) -> Iterator[list[History]]:
    """Yield the histories in batches of about :data:`AT_ONCE` events."""
    part: list[str] = []
    events = 0
    for user_id, length in zip(dataset.user_ids, dataset.interactions.lengths.tolist(), strict=True):
        part.append(user_id)
        events += length
        if events >= AT_ONCE:
            yield dataset.histories(part)
            part, events = [], 0
    if part:
        yield dataset.histories(part)


def _events(history: History) -> Sequence[Event]:
    """Create a user's events with ids from their content; repeated events are numbered, so that ids are unique."""
    alike: Counter[tuple[str, float, int]] = Counter()
    made = []
    texts = history.texts or [""] * len(history)
    columns = (history.item_ids, history.ratings, history.timestamps)
    for content, text in zip(zip(*columns, strict=True), texts, strict=True):
        alike[content] += 1
        item_id, rating, timestamp = content
        written = f"{item_id}\0{rating}\0{timestamp}\0{alike[content]}".encode()
        made.append(Event(*content, hashlib.blake2b(written, digest_size=16).hexdigest(), text or None))
    return made
