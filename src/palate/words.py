"""English words that sentences are made of: plurals, singulars and counted things."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inflect import engine

_LETTER = re.compile("[A-Za-z]")
"""What English words are made of; others have no English plural."""
_SINGULAR_ENDINGS = ("ss", "us", "is", "as")
"""Of words like class, status, basis and gas, which no plural ends in."""


@lru_cache(maxsize=1024)
def plural(noun: str) -> str:
    """Return the plural of a singular noun or phrase: genres, categories, series, tracks of music."""
    return str(_english().plural_noun(noun)) if _LETTER.search(noun) else noun


@lru_cache(maxsize=1024)
def singular(noun: str) -> str:
    """Return the singular of a noun: of genres genre, of series series. One that is singular stays as it is."""
    if not _LETTER.search(noun) or noun.endswith(_SINGULAR_ENDINGS):
        return noun
    return str(_english().singular_noun(noun) or noun)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one: "1 genre", "1,200 genres"."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


@lru_cache(maxsize=1)
def _english() -> engine:
    import inflect  # takes a second: it checks its own types

    return inflect.engine()
