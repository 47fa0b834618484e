"""Facts of an answer, which are marked in its template: what a written sentence has to contain, in this order."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPEN, _OR, _CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"  # noncharacters of Unicode, for internal use
_MARKED = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_MARKS = str.maketrans("", "", _OPEN + _OR + _CLOSE)


@dataclass(frozen=True)
class StatedFact:
    """A part of an answer that is kept word for word."""

    forms: tuple[str, ...]
    """The ways to say it in a written sentence; one of them has to occur."""
    opens: bool
    """Whether a new sentence may begin before it."""


@dataclass(frozen=True)
class Draft:
    """An answer by a template, and the facts in it."""

    text: str
    facts: tuple[StatedFact, ...]


def fact(said: str, *others: str) -> str:
    """Mark a fact in a template.

    Args:
        said: The words of the template.
        others: Other words for it, one of which a written sentence may use instead.

    Returns:
        The marked text, to be put into a template that :func:`drafted` reads.
    """
    return reworded(said, said, *others)


def reworded(said: str, *written: str) -> str:
    """Mark a fact as :func:`fact`, whose words in the template, such as "Yes, the user", no written sentence uses.

    ``written`` are the words that it may use; they begin in lower case unless with a name.
    """
    return _OPEN + _OR.join(form.translate(_MARKS) for form in (said, *written)) + _CLOSE


def drafted(marked: str) -> Draft:
    """Read a filled template with marked facts."""
    facts, end = [], 0
    for found in _MARKED.finditer(marked):
        _, *written = found[1].split(_OR)
        facts.append(StatedFact(tuple(written), "." in marked[end : found.start()] or not end))
        end = found.end()
    return Draft(_MARKED.sub(lambda found: found[1].split(_OR)[0], marked), tuple(facts))
