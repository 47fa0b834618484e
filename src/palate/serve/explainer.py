"""Explanations of the language model's answers: likes by category, and attribution to items of the history."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from palate.encoders.base import UserPrompt
from palate.errors import DataError, PalateError, UnknownUserError
from palate.evaluation.attribution import attribute_prompts, left_out
from palate.items.texts import dataset_items
from palate.model.config import PersonalizedSettings
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import History, Interactions, Item, Preferences, titled
from palate.serve.batcher import OverloadedError
from palate.serve.engine import Users
from palate.serve.responses import Attributed, CategoryView, Influence, View
from palate.serve.schemas import SentQuestion
from palate.serve.settings import Limits
from palate.tasks import CategoryPreference, load_task
from palate.tasks.statistics import CategoryStatistics, category_statistics

log = logging.getLogger("palate.serve")


class KnownItems:
    """Titles and categories of the items of a run's dataset, if found, and of added items.

    A model's item table holds vectors only, so texts have to come from the dataset. ``task`` is the label rule over
    the dataset's categories; None without the dataset.
    """

    def __init__(self, run: Path, settings: PersonalizedSettings, data: Path | None = None) -> None:
        self.task: CategoryPreference | None = None
        self.noun = "item"
        """Noun for an item, in the singular."""
        self._categories = {name: number for number, name in enumerate(settings.categories)}
        self._items: dict[str, Item] = {}
        self._added: dict[str, Item] = {}
        try:
            dataset = dataset_of(load_run(run), data)
        except PalateError as error:
            log.info("titles and the label rule are not available: %s", error)
            return
        if dataset.info.fingerprint != settings.data_fingerprint:
            log.info(
                "titles and the label rule are not available: %s is not the dataset that the model was trained on",
                dataset.path,
            )
            return
        self.task = load_task(settings.task, dataset.info)
        self.noun = dataset.info.item_noun
        # the label rule's categories; added items may have brought the model more
        self._categories = {name: number for number, name in enumerate(dataset.categories)}
        items = dataset_items(dataset)
        users = np.bincount(dataset.interactions.item_index, minlength=len(items))
        self._items = {items[at].item_id: items[at] for at in np.argsort(-users, kind="stable").tolist()}

    @property
    def categories(self) -> list[str]:
        """Categories of the label rule, in its order."""
        return list(self._categories)

    def add(self, items: Iterable[Item]) -> None:
        """Add items; items of the dataset keep their texts."""
        self._added |= {item.item_id: item for item in items}

    def forget_added(self) -> None:
        """Remove the items that were added."""
        self._added = {}

    def item(self, item_id: str) -> Item | None:
        """Return an item; None if its text is not known."""
        return self._items.get(item_id, self._added.get(item_id))

    def all(self) -> list[Item]:
        """Return all items, most popular first, added ones last."""
        return [*self._items.values(), *self._added.values()]

    def statistics(
        self, history: History, scale: Sequence[float], new_items: Sequence[Item] = ()
    ) -> CategoryStatistics:
        """Compute the statistics [1, L] of one history for the label rule."""
        known: Mapping[str, Item] = {
            **self._added,
            **self._items,
            **{item.item_id: item for item in new_items},
        }
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


@dataclass(frozen=True)
class _Asked:
    """A history to explain, with its user and version if stored, and its new items."""

    user_id: str | None
    version: int | None
    history: History
    new_items: Sequence[Item] = ()


class Explainer:
    """Explains answers about stored or given histories.

    Only one attribution runs at a time, as it costs as much as many answers.
    """

    def __init__(self, users: Users, known: KnownItems, limits: Limits) -> None:
        self._users, self._served, self._store = users, users.served, users.store
        self._known, self._limits = known, limits
        self._attributing = threading.Lock()
        self._read = 0  # number of the last added item that was read from the store
        users.at_removal(self._forget)

    def titles(self, item_ids: Sequence[str]) -> list[str | None]:
        """Look up the titles of items, with their years; None for unknown items."""
        return [None if item is None else titled(item) for item in self.items(item_ids)]

    def items(self, item_ids: Sequence[str]) -> list[Item | None]:
        """Look up items; None for those without a text."""
        if any(self._known.item(item_id) is None for item_id in item_ids):
            self._read_added()
        return [self._known.item(item_id) for item_id in item_ids]

    def all_items(self) -> list[Item]:
        """Return all known items, most popular first."""
        self._read_added()
        return self._known.all()

    def _read_added(self) -> None:
        """Read the items that were added to the store since the last call."""
        found = self._store.items(self._read)
        self._known.add(found.items)
        self._read = found.last

    @property
    def item_noun(self) -> str:
        """Noun for an item, in the singular."""
        return self._known.noun

    @property
    def categories(self) -> list[str]:
        """Categories of the label rule."""
        return self._known.categories

    @property
    def task(self) -> CategoryPreference | None:
        """The task with the label rule; None without the run's dataset."""
        return self._known.task

    def labels(self, user_id: str) -> Preferences | None:
        """Label a stored user by the label rule on the whole history; None without the rule or the user."""
        if self.task is None:
            return None
        try:
            history = self._store.history(user_id).history
        except UnknownUserError:
            return None
        self.titles(history.item_ids)
        return self.task.labels(self._known.statistics(history, self._served.scale))

    def _forget(self) -> None:
        self._read = 0
        self._known.forget_added()

    def view(self, sent: SentQuestion) -> View:
        """Compute the user's likes by category; raises the errors of :meth:`Service.prepare`."""
        asked = self._asked(sent, self._limits.events)
        self.titles(asked.history.item_ids)  # so that the categories of items added elsewhere are known
        task = self._known.task
        found, like_above, dislike_below = None, None, None
        if task is not None:
            found = self._known.statistics(asked.history, self._served.scale, asked.new_items)
            like_above, dislike_below = task.thresholds(found)[0].tolist()
        by_rule = self._by_rule(found)
        chances = self._served.view_of(asked.history, asked.new_items)
        categories = [
            CategoryView(
                name=name,
                liked=None if chances is None else float(chances[number, 0]),
                disliked=None if chances is None else float(chances[number, 1]),
                **by_rule.get(name, {"count": None, "score": None, "rule": None}),
            )
            for number, name in enumerate(self._served.model.settings.categories)
        ]
        return View(
            user_id=asked.user_id,
            version=asked.version,
            read=len(asked.history),
            like_above=like_above,
            dislike_below=dislike_below,
            categories=categories,
        )

    def attribute(self, sent: SentQuestion, check: Callable[[], object]) -> Attributed:
        """Attribute an answer to the items of the history, by leaving out each of them.

        Args:
            sent: The question.
            check: Called between batches; may raise an error to cancel the work.

        Raises:
            DataError: The history is too long for an attribution; or as :meth:`Service.prepare`.
            UnknownUserError: The user is not stored.
            OverloadedError: Another attribution is running.
        """
        asked = self._asked(sent, self._served.reads or self._limits.attributed + 1)
        history = self._served.model.visible(asked.history)
        if len(history) > self._limits.attributed:
            found = (
                f"{len(history):,}" if sent.history is not None else f"more than {self._limits.attributed:,}"
            )
            raise DataError(
                f"history: found {found} events that the model reads, expected at most "
                f"{self._limits.attributed:,} for an attribution; give the most recent ones as a history"
            )
        instruction = sent.instruction or self._served.model.settings.instruction
        if not self._attributing.acquire(blocking=False):
            raise OverloadedError(1, 2)
        try:
            model, passes = self._served.prompts_of(left_out(history), asked.new_items)
            found_out = attribute_prompts(model, _checked(passes, check), instruction)
        finally:
            self._attributing.release()
        new = {item.item_id: titled(item) for item in asked.new_items}
        names = [
            new.get(one, known)
            for one, known in zip(history.item_ids, self.titles(history.item_ids), strict=True)
        ]
        rows = zip(history.item_ids, names, history.ratings, found_out.influence.tolist(), strict=True)
        fields = Influence.model_fields
        return Attributed(
            user_id=asked.user_id,
            version=asked.version,
            instruction=instruction,
            text=found_out.answer,
            log_probability=found_out.log_probability,
            by=found_out.by,
            items=[Influence(**dict(zip(fields, row, strict=True))) for row in rows],
            model=self._served.identity,
        )

    def _asked(self, sent: SentQuestion, newest: int) -> _Asked:
        self._limits.check_question(sent)
        if sent.user_id is not None:
            found = self._store.history(sent.user_id, newest)
            self._users.learn(found.history.item_ids)
            return _Asked(sent.user_id, found.version, found.history)
        return _Asked(None, None, *self._users.given(sent.history or []))

    def _by_rule(self, found: CategoryStatistics | None) -> dict[str, dict[str, object]]:
        """Apply the label rule to each of its categories; returns fields of :class:`CategoryView` by category."""
        task = self._known.task
        if found is None or task is None:
            return {}
        labels, scores = task.labels(found), task.scores(found)[0].tolist()
        rule: dict[int, Literal["liked", "disliked"]] = dict.fromkeys(labels.disliked[0].tolist(), "disliked")
        rule |= dict.fromkeys(labels.liked[0].tolist(), "liked")
        return {
            name: {"count": count, "score": scores[number] if count else None, "rule": rule.get(number)}
            for number, (name, count) in enumerate(zip(self.categories, found.count[0].tolist(), strict=True))
        }


def _checked(passes: Iterator[UserPrompt], check: Callable[[], object]) -> Iterator[UserPrompt]:
    check()
    for prompts in passes:
        yield prompts
        check()
