"""Questions about users of all trained kinds, with targets from full histories and answer choices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from string import Formatter
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from scipy.special import expit

from palate.errors import RecipeError, did_you_mean
from palate.schema import (
    Doubles,
    EventTexts,
    Indices,
    Interactions,
    Ints,
    Preferences,
    QuestionKind,
    RatingIndices,
    Windows,
)
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.statistics import CategoryStatistics
from palate.tasks.wordings import ABOUT_ITEMS, KINDS, NAMING, WORDINGS
from palate.words import plural

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

_Column = TypeVar("_Column", Indices, RatingIndices, Ints)

YES_NO = ("yes", "no")
DOUBT = 0.1
"""Scale of the logistic distribution of yes-no targets about items that follow expected ratings, on a rating scale of
width 1: so a model learns how sure a yes is."""
DOUBT_OF_MEANS = 0.04
"""The same for categories, whose expected mean ratings are more certain."""
ITEM_KINDS: tuple[QuestionKind, ...] = ("rating", *ABOUT_ITEMS)
"""Kinds of questions about items, which need ratings."""


@dataclass(frozen=True)
class Entity:
    """A category, or an item with its expected rating, that a question names."""

    category: int
    """Index of the category; -1 for an item."""
    start: int
    """Start of its name in the question's text, in characters."""
    end: int
    """End of its name, exclusive."""
    expected: float = -1.0
    """Expected rating of an item, from 0 at the scale's low end to 1 at its high end; -1 for a category."""


@dataclass(frozen=True)
class Question:
    """A question about a user, the categories that it names, and its kind if known."""

    text: str
    entities: tuple[Entity, ...] = ()
    kind: QuestionKind | None = None

    @classmethod
    def of(cls, asked: str | Question) -> Question:
        """Convert a text to a question without entities; questions are returned as they are."""
        return asked if isinstance(asked, Question) else cls(asked)


@dataclass(frozen=True, eq=False)
class Questions:
    """One question of one kind for each of B users."""

    windows: Windows  # input of the model; without the item that is asked about
    asked: list[Question]
    targets: list[str]
    choices: list[tuple[str, ...]]  # answer choices; empty if the answer names categories
    values: Doubles  # [C] value of each choice: 1 for "yes", 1 for the second of a pair, a rating itself
    truth: Doubles  # [B] value of the true answer; 0 if the answer names categories
    chances: Doubles  # [B, C] target probability of each choice
    categories: Ints  # [B, 2] categories that are asked about, -1 for none
    items: Ints  # [B, 2] items that are asked about, -1 for none
    expected: Doubles  # [B, 2] expected ratings of these items, not a number where they come with none

    @property
    def instructions(self) -> list[str]:
        """Texts of the questions."""
        return [one.text for one in self.asked]

    def with_windows(self, of: Ints) -> Questions:
        """Replace the windows by those of the users at ``of`` [B]."""
        return replace(self, windows=self.windows[of])


class RatesItems(Protocol):
    """Predicts ratings."""

    def __call__(self, windows: Windows, items: Ints) -> Doubles:
        """Predict the ratings [B] of items [B] by the users of B windows, in the ratings' units."""


class Questioner:
    """Samples questions about windows, with targets from the users' full interactions.

    Args:
        task: The task.
        dataset: Dataset of the items.
        interactions: Full interactions of the users.
        statistics: Their statistics by category.
        rates: Predicts the expected ratings that items in questions come with; None to name items without them.
    """

    def __init__(
        self,
        task: CategoryPreference,
        dataset: Dataset,
        interactions: Interactions,
        statistics: CategoryStatistics,
        rates: RatesItems | None = None,
    ) -> None:
        self.task, self.dataset, self.interactions, self.statistics = task, dataset, interactions, statistics
        self.rates = rates
        self._values = [f"{value:g}" for value in dataset.info.rating_values]
        self._words = {
            "fields": plural(dataset.info.category_field),
            "low": self._values[0],
            "high": self._values[-1],
        }

    def draw(
        self,
        kind: QuestionKind,
        wordings: Sequence[str],
        users: Ints,
        windows: Windows,
        preferences: Preferences,
        rng: np.random.Generator,
        decided: bool = False,
    ) -> Questions:
        """Draw one question for each of B users.

        Args:
            kind: The kind of question.
            wordings: Templates, of which one is drawn for each user.
            users: User indices, [B].
            windows: Windows that the model reads, [B, P].
            preferences: Labels of the users.
            rng: Random number generator.
            decided: Whether the targets of questions about items follow random expected ratings, which the items come
                with, instead of the true ratings and the predicted ones; yes and stars are drawn by a probability,
                which is in ``chances``.

        Returns:
            The questions, with windows that do not contain the items asked about.

        Raises:
            RecipeError: The kind needs ratings, but the data has none.
        """
        count = len(users)
        worded = [wordings[at] for at in rng.integers(len(wordings), size=count)]
        categories, items = np.full((count, 2), -1), np.full((count, 2), -1)
        expected = np.full((count, 2), np.nan)
        choices: list[tuple[str, ...]] = [()] * count
        values, truth, chances = np.zeros(0), np.zeros(count), None
        if kind in NAMING:
            targets = self.task.texts(kind, preferences)
        elif kind == "yes-no":
            categories[:, :1] = self._categories(users, 1, rng)
            least = self.task.thresholds(self.statistics[users])[:, 0]
            truth = (self._scores(users, categories[:, 0]) > least).astype(np.float64)
            values = np.array([1.0, 0.0])
            targets, choices = [YES_NO[0] if yes else YES_NO[1] for yes in truth], [YES_NO] * count
        elif kind == "pair":
            categories = self._categories(users, 2, rng)
            score = np.stack([self._scores(users, column) for column in categories.T], axis=1)
            values, truth = np.array([0.0, 1.0]), score.argmax(axis=1).astype(np.float64)
            choices = [(self.task.label_names[a], self.task.label_names[b]) for a, b in categories.tolist()]
            targets = [names[int(best)] for names, best in zip(choices, truth, strict=True)]
        else:
            rows = self._held_out(users, windows, 2 if kind == "item-pair" else 1, rng)
            named = np.where(rows < 0, -1, self.interactions.item_index[rows])
            items[:, : rows.shape[1]] = named
            for column in named.T:
                windows = without(windows, column)
            scale = self.dataset.rating_values.astype(np.float64)
            known = scale[self.interactions.rating_index[rows]]  # [B, 1] or [B, 2]
            if decided or self.rates is not None:
                place = rng.random(known.shape) if decided else self._predicted(windows, named, scale)
                expected[:, : rows.shape[1]] = place
                known = scale[0] + place * np.ptp(scale) if decided else known
            if kind == "rating":
                value = self.interactions.rating_index[rows[:, 0]]
                if decided:
                    chances = _between(known[:, 0], scale)
                    value = (rng.random(count)[:, None] < chances.cumsum(axis=1)).argmax(axis=1)
                values, truth = scale, scale[value]
                targets, choices = [self._values[at] for at in value], [tuple(self._values)] * count
            elif kind == "item-yes-no":
                least = self.task.thresholds(self.statistics[users])[:, 0]
                truth, values = (known[:, 0] > least).astype(np.float64), np.array([1.0, 0.0])
                if decided:
                    yes = expit((known[:, 0] - least) / (DOUBT * np.ptp(scale)))
                    truth, chances = np.float64(rng.random(count) < yes), np.stack([yes, 1 - yes], axis=1)
                targets, choices = [YES_NO[0] if yes else YES_NO[1] for yes in truth], [YES_NO] * count
            else:
                truth, values = known.argmax(axis=1).astype(np.float64), np.array([0.0, 1.0])
                choices = [(self._described[a][0], self._described[b][0]) for a, b in items.tolist()]
                targets = [titles[int(best)] for titles, best in zip(choices, truth, strict=True)]
        asked = [
            replace(self._question(wording, *about), kind=kind)
            for wording, *about in zip(
                worded, categories.tolist(), items.tolist(), expected.tolist(), strict=True
            )
        ]
        low, high = self.dataset.info.rating_values[0], self.dataset.info.rating_values[-1]
        expected = low + expected * (high - low)
        if chances is None:
            chances = (values == truth[:, None]).astype(np.float64)
        return Questions(
            windows, asked, targets, choices, values, truth, chances, categories, items, expected
        )

    def _predicted(self, windows: Windows, items: Ints, scale: Doubles) -> Doubles:
        """Predict the ratings of items [B, Q] as positions on the scale."""
        assert self.rates is not None
        rated = np.stack([self.rates(windows, column) for column in items.T], axis=1)
        return np.asarray(((rated - scale[0]) / np.ptp(scale)).clip(0, 1))

    def _question(
        self, wording: str, categories: Sequence[int], items: Sequence[int], expected: Sequence[float]
    ) -> Question:
        if items[0] < 0:
            return about_categories(wording, categories, self.task.label_names, **self._words)
        described = [self._described[item] for item in items if item >= 0]
        if "{item}" not in wording or not math.isnan(expected[0]):
            return about_items(wording, [one[:2] for one in described], expected, **self._words)
        title, year, names = described[0]
        index = [self._index[name] for name in names]
        return about_item(wording, title, year, index, self.task.label_names, **self._words)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.task.label_names)}

    @cached_property
    def _described(self) -> list[tuple[str, int | None, list[str]]]:
        return self.dataset.items.select("title", "year", "categories").rows()

    def _scores(self, users: Ints, category: Ints) -> Doubles:
        return self.task.scores(self.statistics[users])[np.arange(len(users)), category]

    def _categories(self, users: Ints, number: int, rng: np.random.Generator) -> Ints:
        """Draw distinct categories with enough interactions for each user, or the most frequent, [B, number]."""
        count = self.statistics.count[users]
        order = np.where(count >= self.task.settings.min_count, 1 + rng.random(count.shape), 0.0)
        order += count * 1e-9  # breaks ties
        return np.argsort(-order, axis=1, kind="stable")[:, :number]

    def _held_out(self, users: Ints, windows: Windows, number: int, rng: np.random.Generator) -> Ints:
        """Draw the rows of one or two interactions per user, [B, number], with items outside the window if possible.

        Two have different ratings if possible.
        """
        check_kinds(["rating"], self.dataset)
        offsets, rows = self.interactions.offsets, []
        for row, user in enumerate(users):
            own = np.arange(offsets[user], offsets[user + 1])
            seen = windows.item_index[row, : windows.length[row]]
            unseen = own[~np.isin(self.interactions.item_index[own], seen)]
            first = rng.choice(unseen if len(unseen) else own)
            if number == 1:
                rows.append([first])
                continue
            rest = unseen[unseen != first] if len(unseen) > 1 else own
            ratings = self.interactions.rating_index
            different = rest[ratings[rest] != ratings[first]]
            rows.append([first, rng.choice(different if len(different) else rest)])
        return np.array(rows, dtype=np.int64)


def about_categories(wording: str, categories: Sequence[int], names: Sequence[str], **words: str) -> Question:
    """Format a question about categories.

    Args:
        wording: A template of :data:`palate.tasks.wordings.WORDINGS`.
        categories: Up to two category indices, -1 for none.
        names: Names of the L categories.
        words: Values of the template's other fields.

    Returns:
        The question, with the positions of the categories' names.
    """
    fields = {
        field: (names[index], [Entity(index, 0, len(names[index]))])
        for field, index in zip(("category", "other"), categories, strict=False)
        if index >= 0
    }
    return _worded(wording, fields, words)


def about_item(
    wording: str,
    title: str,
    year: int | None,
    categories: Sequence[int],
    names: Sequence[str],
    **words: str,
) -> Question:
    """Format a question about an item, which contains its categories' names; arguments as :func:`about_categories`."""
    named = [names[index] for index in categories]
    text = described(title, year, named)
    ends, end = [], len(text) - 1
    for index, name in zip(reversed(categories), reversed(named), strict=True):
        ends.append(Entity(index, end - len(name), end))
        end -= len(f", {name}")
    return _worded(wording, {"item": (text, ends[::-1])}, words)


def about_items(
    wording: str, items: Sequence[tuple[str, int | None]], expected: Sequence[float], **words: str
) -> Question:
    """Format a question about items with their expected ratings.

    Args:
        wording: A template; the items are its ``{item}``, or its ``{category}`` and ``{other}``.
        items: Title and year of one or two items.
        expected: Their expected ratings, as in :class:`Entity`.
        words: Values of the template's other fields.
    """
    places = ("item",) if "{item}" in wording else ("category", "other")
    fields = {}
    for place, (title, year), value in zip(places, items, expected, strict=False):
        text = described(title, year, [])
        fields[place] = (text, [Entity(-1, 0, len(text), value)])
    return _worded(wording, fields, words)


def recognised(text: str, names: Sequence[str], field: str) -> Question:
    """Parse a question in one of the known wordings.

    Args:
        text: The question.
        names: Names of the L categories.
        field: Singular noun for a category.

    Returns:
        The question with its kind and categories; without both if the wording or a category is unknown.
    """
    for kind, wordings in WORDINGS.items():
        for wording in wordings.all:
            found = re.fullmatch(_pattern(wording, plural(field)), text)
            if found is None:
                continue
            about = [found[part] for part in ("category", "other") if part in found.groupdict()]
            if all(name in names for name in about):
                categories = [names.index(name) for name in about]
                whole = about_categories(
                    wording, categories, names, **found.groupdict(), fields=plural(field)
                )
                return replace(whole, kind=kind)
    return Question(text)


@cache
def _pattern(wording: str, fields: str) -> re.Pattern[str]:
    """Return the regular expression of a wording, with a group for each field except ``fields``."""
    pattern = ""
    for literal, field, _, _ in Formatter().parse(wording):
        pattern += re.escape(literal)
        if field:
            pattern += re.escape(fields) if field == "fields" else f"(?P<{field}>.+)"
    return re.compile(pattern)


def _worded(wording: str, fields: dict[str, tuple[str, list[Entity]]], words: dict[str, str]) -> Question:
    """Fill in a template and compute the positions of category names, given with each field's value."""
    text, entities = "", []
    for literal, field, _, _ in Formatter().parse(wording):
        text += literal
        if field in fields:
            value, named = fields[field]
            entities += [replace(one, start=len(text) + one.start, end=len(text) + one.end) for one in named]
            text += value
        elif field:
            text += words[field]
    return Question(text, tuple(entities))


def _between(values: Doubles, scale: Doubles) -> Doubles:
    """Express each of B values as the mean of the two scale values around it: their weights, [B, C]."""
    above = np.searchsorted(scale, values).clip(1, len(scale) - 1)
    share = (values - scale[above - 1]) / (scale[above] - scale[above - 1])
    rows, weights = np.arange(len(values)), np.zeros((len(values), len(scale)))
    weights[rows, above], weights[rows, above - 1] = share, 1 - share
    return weights


def described(title: str, year: int | None, categories: Sequence[str]) -> str:
    """Format an item in a question: its title, with year and categories in brackets."""
    parts = [*([str(year)] if year and str(year) not in title else []), *categories]
    return f"{title} ({', '.join(parts)})" if parts else title


def check_kinds(kinds: Iterable[str], dataset: Dataset) -> None:
    """Check that a dataset has what the kinds of questions need.

    Raises:
        RecipeError: A kind is unknown, needs ratings that the data does not have, or needs a second category.
    """
    asked = list(kinds)
    for kind in asked:
        if kind not in KINDS:
            close = did_you_mean(kind, KINDS)
            raise RecipeError(f"unknown kind of question {kind!r}{close}; expected one of {', '.join(KINDS)}")
    if dataset.info.feedback == "implicit" and (about := [kind for kind in asked if kind in ITEM_KINDS]):
        raise RecipeError(
            f"questions of the kinds {', '.join(about)} need ratings, but this data has none; leave them out, in a "
            f"recipe by train.questions.{about[0]}=null"
        )
    if "pair" in asked and len(dataset.categories) < 2:
        raise RecipeError(
            f"the kind of question 'pair' needs 2 categories, but this data has {len(dataset.categories)}; leave it "
            "out, in a recipe by train.questions.pair=null"
        )


def without(windows: Windows, items: Ints) -> Windows:
    """Remove the interactions with one item, ``items`` [B], from each window."""
    keep = windows.mask & (windows.item_index != items[:, None])
    order = np.argsort(~keep, axis=1, kind="stable")
    length = keep.sum(axis=1)
    filled = np.arange(keep.shape[1]) < length[:, None]

    def kept(column: _Column) -> _Column:
        return np.where(filled, np.take_along_axis(column, order, axis=1), 0).astype(column.dtype)

    texts = windows.texts and EventTexts(kept(windows.texts.row), windows.texts.vectors)
    columns = (kept(windows.item_index), kept(windows.rating_index), kept(windows.timestamp))
    return Windows(*columns, length, texts=texts)
