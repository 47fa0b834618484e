"""Textual ids of items and users, which a language model reads and generates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.data.item_numbers import file_numbers, first_appearances
from palate.generative.clusters import recursive_clusters
from palate.schema import Bools, Ints

if TYPE_CHECKING:
    from palate.config.generative import GenerativeSettings
    from palate.data.dataset import Dataset

ITEM, USER = "item_", "user_"
DIGITS = 2
"""Maximum number of digits in a piece of a number."""
# A tokenizer trained here has these pieces as tokens; a pretrained one has its own.
NUMBER_PIECES = tuple(f"{number:0{DIGITS}d}" for number in range(10**DIGITS))


@dataclass(frozen=True)
class ItemIds:
    """Textual ids of I items; none is a prefix of another."""

    names: tuple[str, ...]
    pieces: tuple[str, ...] = ()
    """Tokens of the ids, besides numbers, to add to the tokenizer."""


def make_item_ids(training: Dataset, settings: GenerativeSettings, seed: int) -> ItemIds:
    """Assign ids to all items of a dataset, from its training interactions only.

    Args:
        training: The items, and training interactions only.
        settings: The kind of ids and the sizes of clusters.
        seed: Seed of random ids, of the order of items without training interactions, and of clusters.

    Returns:
        The ids, by item.

    Raises:
        DataError: Leaking ids are requested, and the data's ids are not integers.
    """
    rng = np.random.default_rng(seed)
    events = training.interactions
    events = events.where(training.chosen(events))
    items = len(training.items)
    if settings.ids == "collaborative":
        return _of_paths(recursive_clusters(events, items, settings.clusters, settings.cluster_size, rng))
    if settings.ids == "random":
        return _of_numbers(rng.permutation(items))
    if settings.ids == "leaking":
        return _of_numbers(file_numbers(training))
    number = first_appearances(events, items)
    unseen = np.bincount(events.item_index, minlength=items) == 0
    number[unseen] = rng.permutation(number[unseen])  # their order in a file may tell what comes next
    return _of_numbers(number)


def numbered_items(numbers: Sequence[int], items: int) -> list[str]:
    """Format numbers below the number of items as ids, all of the same width."""
    return _padded(ITEM, np.array(numbers), items - 1)


def user_names(users: int) -> list[str]:
    """Format users as numbers, by their index in the data."""
    return _padded(USER, np.arange(users))


def known_users(training: Dataset) -> Bools:
    """Mask of the users with training interactions, whose ids are trained, [U]."""
    known: Bools = training.interactions.lengths > 0
    return known


def _of_numbers(number: Ints) -> ItemIds:
    return ItemIds(tuple(_padded(ITEM, number - min(int(number.min(initial=0)), 0))))


def _padded(prefix: str, numbers: Ints, largest: int | None = None) -> list[str]:
    """Zero-pad numbers to the width of the largest one, so that none is a prefix of another."""
    digits = len(str(int(numbers.max(initial=0)) if largest is None else largest))
    width = -(-digits // DIGITS) * DIGITS
    return [f"{prefix}{number:0{width}d}" for number in numbers.tolist()]


def _of_paths(paths: Sequence[tuple[int, ...]]) -> ItemIds:
    def piece(level: int, number: int) -> str:
        return f"<{chr(ord('a') + level)}{number}>"

    names = tuple(ITEM + "".join(piece(*step) for step in enumerate(path)) for path in paths)
    used = {step for path in paths for step in enumerate(path)}
    return ItemIds(names, tuple(piece(*step) for step in sorted(used)))
