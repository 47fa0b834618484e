"""PEPLER's training, dev and test interactions: users, items, ratings and texts. Its leakage boundary.

All inputs about users and items, including words of discrete prompts, come from training rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.data.protocols import event_parts
from palate.errors import DataError
from palate.recommend.content import has_texts
from palate.schema import Bools, Doubles, Ints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.config.recipe import PeplerSettings
    from palate.data.dataset import Dataset

HELD_OUT_AT_RANDOM = 0.1
"""Fraction of test interactions under ``random``, and of dev interactions."""
_BREAKS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_WORD = re.compile(r"[^\W\d_][\w'-]+")


@dataclass(frozen=True, eq=False)
class RatedTexts:
    """N interactions with users, items, ratings and review texts, in the dataset's order."""

    row: Ints  # [N] into the dataset's interactions
    user: Ints  # [N]
    item: Ints  # [N]
    rating: Doubles  # [N] values
    texts: Sequence[str] | None  # [N]; None where the data has no reviews

    def __len__(self) -> int:
        return len(self.row)

    def of(self, rows: Ints | Bools) -> RatedTexts:
        """Select interactions."""
        numbers = np.arange(len(self))[rows]
        texts = None if self.texts is None else [self.texts[number] for number in numbers]
        return RatedTexts(self.row[rows], self.user[rows], self.item[rows], self.rating[rows], texts)


@dataclass(frozen=True, eq=False)
class RatedTextSplit:
    """Training, dev and test interactions of a protocol."""

    training: RatedTexts
    dev: RatedTexts
    test: RatedTexts
    known: Bools  # [N'] rows of the dataset that may be read: training ones, and histories of other users


def split_texts(dataset: Dataset, settings: PeplerSettings, seed: int) -> RatedTextSplit:
    """Split a dataset's interactions into training, dev and test.

    If the data has reviews, only interactions with a review are used.

    Args:
        dataset: The dataset.
        settings: The protocol, and how long explanations are.
        seed: Seed of ``random``.

    Returns:
        The parts; held-out interactions have trained items and, except under ``new-users``, trained users.

    Raises:
        DataError: The data has no ratings, or a part is empty.
    """
    if dataset.info.feedback != "ratings":
        raise DataError(
            f"{dataset.info.name} has no ratings, which PEPLER learns by; prepare it with a column of ratings",
            dataset.path,
        )
    if settings.protocol == "random":
        parts = _at_random(len(dataset.interactions), seed)
        known = parts[0]
    else:
        *parts, known = event_parts(dataset, settings.protocol)
    every = _every(dataset, settings.max_words)
    written = np.ones(len(every), dtype=np.bool_)
    if every.texts is not None:
        written = np.array([bool(text) for text in every.texts], dtype=np.bool_)
    training, dev, test = (every.of(part & written) for part in parts)
    items = np.isin(np.arange(len(dataset.items)), training.item)
    users = np.isin(np.arange(len(dataset.user_ids)), training.user)
    told = users if settings.protocol != "new-users" else np.ones_like(users)
    dev, test = (one.of(items[one.item] & told[one.user]) for one in (dev, test))
    for name, part in (("training", training), ("dev", dev), ("test", test)):
        if not len(part):
            raise DataError(
                f"{dataset.info.name} has no {name} interactions by the protocol {settings.protocol}; take another "
                "protocol, or more data",
                dataset.path,
            )
    return RatedTextSplit(training, dev, test, known)


def _every(dataset: Dataset, max_words: int) -> RatedTexts:
    events, reviews = dataset.interactions, dataset.review_texts
    texts = None
    if reviews is not None:
        texts = [first_words(text or "", max_words) for text in reviews.to_list()]
    ratings = dataset.rating_values[events.rating_index].astype(np.float64)
    numbers = np.arange(len(events))
    return RatedTexts(numbers, events.owner, events.item_index.astype(np.int64), ratings, texts)


def first_words(text: str, most: int) -> str:
    """Truncate a text to its first words; control characters and runs of spaces become one space."""
    return " ".join(_BREAKS.sub(" ", text).split()[:most])


def _at_random(interactions: int, seed: int) -> list[Bools]:
    drawn = np.random.default_rng(seed).random(interactions)
    test, dev = drawn < HELD_OUT_AT_RANDOM, drawn < 2 * HELD_OUT_AT_RANDOM
    return [~dev, dev & ~test, test]


@dataclass(frozen=True, eq=False)
class PromptWords:
    """Words of users and items for discrete prompts."""

    users: list[str]  # [U]
    items: list[str]  # [I]
    source: str
    """What they are: ``titles and categories``, or ``words of training reviews``."""


def prompt_words(dataset: Dataset, split: RatedTextSplit, most: int) -> PromptWords:
    """Select the words of discrete prompts, from the catalogue and known interactions alone.

    Args:
        dataset: The dataset.
        split: The split, with the known interactions.
        most: Maximum number of words of a user, and of an item.

    Returns:
        An item's title and categories, and of a user those of the newest known items. Where items have no titles, the
        words that tell an item's, or a user's, training reviews from all others (tf-idf).
    """
    titles = dataset.items["title"].to_list()
    events = dataset.interactions
    if has_texts(dataset):
        names = [
            " ".join(f"{title} {' '.join(categories)}".split()[:most])
            for title, categories in zip(titles, dataset.items["categories"].to_list(), strict=True)
        ]
        known: list[list[int]] = [[] for _ in dataset.user_ids]
        for row in np.flatnonzero(split.known)[::-1]:
            known[events.owner[row]].append(int(events.item_index[row]))
        users = [" ".join(" ".join(names[item] for item in one).split()[:most]) for one in known]
        return PromptWords(users, names, "titles and categories")
    training = split.training
    return PromptWords(
        _distinctive_words(training, training.user, len(dataset.user_ids), most),
        _distinctive_words(training, training.item, len(dataset.items), most),
        "words of training reviews",
    )


def _distinctive_words(training: RatedTexts, owner: Ints, owners: int, most: int) -> list[str]:
    """Select each owner's words of the highest tf-idf."""
    counts: list[dict[str, int]] = [{} for _ in range(owners)]
    for one, text in zip(owner, training.texts or [""] * len(training), strict=True):
        for word in _WORD.findall(text.lower()):
            counts[one][word] = counts[one].get(word, 0) + 1
    spread: dict[str, int] = {}
    for words in counts:
        for word in words:
            spread[word] = spread.get(word, 0) + 1
    rare = {word: float(np.log(owners / number)) for word, number in spread.items()}
    ranked = (sorted(words.items(), key=lambda pair: (-pair[1] * rare[pair[0]], pair[0])) for words in counts)
    return [" ".join(word for word, _ in words[:most]) for words in ranked]
