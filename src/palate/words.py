"""English plurals, singulars and counts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluralizer import Pluralizer

_LETTER = re.compile("[A-Za-z]")
"""What English words are made of; others have no English plural."""
_HEAD = re.compile(" (?=(?:of|for|from|in|on|at|by|with|about) )")
"""What ends the things that a phrase is about: in "genres of music" there are several genres."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@lru_cache(maxsize=1024)
def plural(noun: str) -> str:
    """Return the plural of a singular noun or phrase: genres, categories, series, tracks of music."""
    if not _LETTER.search(noun):
        return noun
    head, *rest = _HEAD.split(noun, maxsplit=1)
    return " ".join([_english().plural(head), *rest])


@lru_cache(maxsize=1024)
def singular(noun: str) -> str:
    """Return the singular of a noun: of genres genre, of series series. One that is singular stays as it is."""
    return _english().singular(noun) if _LETTER.search(noun) else noun


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one: "1 genre", "1,200 genres"."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def printable(text: str) -> str:
    """Show control characters and those that reverse the direction of text as escapes; line ends and tabs stay.

    Names come from data, and a terminal would obey them.
    """
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


@lru_cache(maxsize=1)
def _english() -> Pluralizer:
    from pluralizer import Pluralizer

    english = Pluralizer()  # type: ignore[no-untyped-call]
    english.add_uncountable_rule("species")
    for hard in ("epoch", "stomach", "monarch", "patriarch", "matriarch"):  # "ch" is spoken as "k"
        english.add_irregular_rule(hard, f"{hard}s")
    return english
