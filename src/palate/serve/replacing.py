"""Checks that a run can take another's place over the same users, before either is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.data.event_types import Unrated
from palate.errors import DataError, MismatchError, PalateError
from palate.items.texts import dataset_items
from palate.model.named import find_model
from palate.recommend.files import is_recommender, load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Item
from palate.serve.settings import ServeSettings


@dataclass(frozen=True)
class ReadEvents:
    """The items that a run knows, and how it reads events about them."""

    items: frozenset[str]
    scale: tuple[float, ...]
    repeats: bool
    unrated: Unrated

    @classmethod
    def of(cls, settings: ServeSettings) -> ReadEvents:
        """Read it of a language model, or of a recommender alone."""
        if is_recommender(settings.run):
            found = load_recommender(settings.run)
            facts = found.facts
            return cls(frozenset(found.item_ids), tuple(facts.rating_values), facts.repeats, facts.unrated)
        model = find_model(settings.run, settings.backbone, settings.data).load("cpu")
        scale = tuple(float(value) for value in model.table.rating_values)
        return cls(frozenset(model.table.item_ids), scale, model.settings.repeats, model.settings.unrated)

    @property
    def described(self) -> str:
        """How events are read, in words."""
        scale = ", ".join(f"{value:g}" for value in self.scale)
        which = "every event" if self.repeats else "the last event of an item"
        return f"{which}, ratings {scale}, without one {self.unrated}"


def check_replaces(settings: ServeSettings) -> None:
    """Check that ``settings.run`` can take the place of ``settings.previous``.

    Raises:
        MismatchError: They are of different kinds, read events in different ways, or are the same.
        DataError: The run knows items that the previous one does not, and its data is not there to tell them.
    """
    run, previous = settings.run, settings.previous
    assert previous is not None
    if run.resolve() == previous.resolve():
        raise MismatchError(f"--previous {previous} is the run itself; name the one that was served before")
    if is_recommender(run) != is_recommender(previous):
        one = run if is_recommender(run) else previous
        raise MismatchError(f"--previous {previous}: {one} alone is a recommender; give runs of one kind")
    if (settings.recommender is None) != (settings.previous_recommender is None):
        given = "--recommender" if settings.recommender else "--previous-recommender"
        raise MismatchError(f"{given} is given alone; give --recommender and --previous-recommender, or none")
    new, old = ReadEvents.of(settings), ReadEvents.of(settings.of_previous)
    if new.described != old.described:
        raise MismatchError(
            f"{run} reads {new.described}, and {previous} {old.described}; prepare the data of both alike"
        )
    if new.items - old.items:
        dataset_texts(settings)


def dataset_texts(settings: ServeSettings) -> Sequence[Item]:
    """Read the items of the data that a run was trained on.

    Raises:
        DataError: The data is not where the run's recipe says.
    """
    try:
        return dataset_items(dataset_of(load_run(settings.run), settings.data))
    except PalateError as error:
        raise DataError(
            f"{settings.run} has items that {settings.previous} does not know, and its data is not there to tell "
            f"them ({error}); name the data with --data"
        ) from error
