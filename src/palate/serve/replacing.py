"""Checks at the start of an upgrade: whether a run can replace another one over the same stored users."""

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
    """The items that a run knows, and its interpretation of events: scale, repeats and missing ratings."""

    items: frozenset[str]
    scale: tuple[float, ...]
    repeats: bool
    unrated: Unrated

    @classmethod
    def of(cls, settings: ServeSettings) -> ReadEvents:
        """Read the facts of the language model of ``settings.run``, or of a recommender without one."""
        if is_recommender(settings.run):
            found = load_recommender(settings.run)
            facts = found.facts
            return cls(frozenset(found.item_ids), tuple(facts.rating_values), facts.repeats, facts.unrated)
        model = find_model(settings.run, settings.backbone, settings.data).load("cpu")
        scale = tuple(float(value) for value in model.table.rating_values)
        return cls(frozenset(model.table.item_ids), scale, model.settings.repeats, model.settings.unrated)

    @property
    def described(self) -> str:
        """Interpretation of events as a text, equal for compatible runs."""
        scale = ", ".join(f"{value:g}" for value in self.scale)
        which = "every event" if self.repeats else "the last event of an item"
        return f"{which}, ratings {scale}, without one {self.unrated}"


def check_replaces(settings: ServeSettings) -> None:
    """Check that ``settings.run`` can replace ``settings.previous``.

    Raises:
        MismatchError: The runs are of different kinds, interpret events differently, or are the same.
        DataError: The run knows items that the previous one does not, and its dataset with their texts is missing.
    """
    run, previous = settings.run, settings.previous
    assert previous is not None
    if run.resolve() == previous.resolve():
        raise MismatchError(
            f"--previous {previous} is the new run itself; give the run that was served before"
        )
    if is_recommender(run) != is_recommender(previous):
        one = run if is_recommender(run) else previous
        raise MismatchError(
            f"--previous {previous}: of the two runs only {one} is a recommender's; give runs of the same kind"
        )
    if (settings.recommender is None) != (settings.previous_recommender is None):
        given = "--recommender" if settings.recommender else "--previous-recommender"
        raise MismatchError(
            f"{given} is given alone; give both --recommender and --previous-recommender, or none"
        )
    new, old = ReadEvents.of(settings), ReadEvents.of(settings.of_previous)
    if new.described != old.described:
        raise MismatchError(
            f"{run} reads {new.described}, and {previous} {old.described}; prepare both datasets with the same options"
        )
    if new.items - old.items:
        dataset_texts(settings)


def dataset_texts(settings: ServeSettings) -> Sequence[Item]:
    """Load the items, with texts, of the dataset that ``settings.run`` was trained on.

    Raises:
        DataError: The dataset is missing at the path in the run's recipe.
    """
    try:
        return dataset_items(dataset_of(load_run(settings.run), settings.data))
    except PalateError as error:
        raise DataError(
            f"{settings.run} has items that {settings.previous} does not know, and the dataset with their texts "
            f"cannot be read ({error}); name it with --data"
        ) from error
