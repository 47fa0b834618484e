"""English plurals, singulars and counts, and escaping of control characters for the terminal."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluralizer import Pluralizer

_LETTER = re.compile("[A-Za-z]")
"""Letters of English words; a noun without any has no English plural."""
_HEAD = re.compile(" (?=(?:of|for|from|in|on|at|by|with|about) )")
"""End of a phrase's head noun, which takes the plural: "genres of music"."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@lru_cache(maxsize=1024)
def plural(noun: str) -> str:
    """Return the plural of a singular noun or phrase: "genre" -> "genres", "track of music" -> "tracks of music"."""
    if not _LETTER.search(noun):
        return noun
    head, *rest = _HEAD.split(noun, maxsplit=1)
    return " ".join([_english().plural(head), *rest])


@lru_cache(maxsize=1024)
def singular(noun: str) -> str:
    """Return the singular of a noun: "genres" -> "genre"; a singular noun is returned unchanged."""
    return _english().singular(noun) if _LETTER.search(noun) else noun


def counted(count: int, noun: str) -> str:
    """Format a number with its noun, in the plural unless the number is 1: "1 genre", "1,200 genres"."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def printable(text: str) -> str:
    """Escape control characters and those that change the text direction; line ends and tabs are kept.

    Names come from data, and a terminal would interpret such characters.
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
