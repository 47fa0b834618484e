"""Verbalizer: converts category labels to text and back, robust to the noise of generated text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from palate.errors import DataError
from palate.schema import Bools, Ints, Preferences, QuestionKind

LIKES, DISLIKES = "The user likes ", " and doesn't like "
DISLIKES_ALONE = "The user doesn't like "
SENTENCES: dict[QuestionKind, tuple[str, ...]] = {
    "preference": (LIKES, "liked", DISLIKES, "disliked"),
    "liked": (LIKES, "liked"),
    "disliked": (DISLIKES_ALONE, "disliked"),
}
"""Sentences by kind of question: literal texts, and between them "liked" or "disliked" for the names."""
NO_ANSWER = "Not enough is known about the user yet"
"""Text of a declined answer, as opposed to an answer without labels."""

_SUBJECT = re.compile(r"\W*the\s+user\b", re.IGNORECASE)
_NEGATION = r"do(?:es)?(?:\s*n['’]?t|\s+not)(?:\s+(?:like|enjoy))?|dislikes?"
_AFFIRMATION = r"likes?|enjoys?"
# Not a part of a longer word: "Noir" is not named in "Film-Noir", nor "Children" in "Children's".
_STARTS, _ENDS = r"(?<!\w)(?<!\w[-'’])", r"(?!\w|[-'’]\w)"


class Verbalizer:
    """Writes and parses "The user likes A, B, C and doesn't like D, E".

    Empty lists are written as "no genre" and "any genre", if ``field`` is "genre". :data:`NO_ANSWER` is parsed as a
    declined answer.

    Args:
        names: Names of the L categories.
        field: Singular noun for a category.
        max_labels: Maximum number of liked, and of disliked, names.

    Raises:
        DataError: A name cannot be parsed unambiguously, such as "A, B" besides "A" and "B".
    """

    def __init__(self, names: Sequence[str], field: str, max_labels: int) -> None:
        self._names = tuple(names)
        self._most = max_labels
        self._nothing = nothing_named(field)
        self._exact = {name: index for index, name in enumerate(self._names)}
        phrases = [*self._names, *self._nothing]
        self._longest_first = sorted(range(len(phrases)), key=lambda index: -len(phrases[index]))
        words = [f"({_as_pattern(phrases[index])})" for index in self._longest_first]
        words += [f"(?P<negation>{_NEGATION})", f"(?P<affirmation>{_AFFIRMATION})"]
        self._pattern = re.compile(f"{_STARTS}(?:{'|'.join(words)}){_ENDS}", re.IGNORECASE)
        self._check_names()

    def write(self, preferences: Preferences) -> list[str]:
        """Format one text for each of B users."""
        liked, disliked = preferences.liked.tolist(), preferences.disliked.tolist()
        return [
            LIKES + self._half(one, self._nothing[0]) + DISLIKES + self._half(other, self._nothing[1])
            for one, other in zip(liked, disliked, strict=True)
        ]

    def write_half(self, preferences: Preferences, half: str) -> list[str]:
        """Format only the labels of one half, "liked" or "disliked", for each of B users."""
        if half == "liked":
            return [LIKES + self._half(row, self._nothing[0]) for row in preferences.liked.tolist()]
        return [DISLIKES_ALONE + self._half(row, self._nothing[1]) for row in preferences.disliked.tolist()]

    def read(self, texts: Sequence[str]) -> Preferences:
        """Parse the names in each of B texts, in order; repeated names count once, at their first position.

        Names after "doesn't like", "does not like" or "dislikes" are disliked, all others are liked.
        """
        rows = [self._read_one(text) for text in texts]
        return Preferences(
            liked=_padded([liked for liked, _ in rows], self._most),
            disliked=_padded([disliked for _, disliked in rows], self._most),
        )

    def declines(self, texts: Sequence[str]) -> Bools:
        """Return a mask of the texts that decline to answer, [B]; no label is parsed from these."""
        return np.array([_declines(text) for text in texts], dtype=np.bool_)

    def _read_one(self, text: str) -> tuple[list[int], list[int]]:
        if _declines(text):
            return [], []
        first: dict[int, bool] = {}
        for name, negated in self._mentions(text):
            first.setdefault(name, negated)
        liked = [name for name, negated in first.items() if not negated]
        return liked, [name for name, negated in first.items() if negated]

    def _mentions(self, text: str) -> Iterator[tuple[int, bool]]:
        """Yield the names in a text, and whether they follow a negation."""
        subject = _SUBJECT.match(text)
        negated = False
        for match in self._pattern.finditer(text, subject.end() if subject else 0):
            if match.lastgroup:
                negated = match.lastgroup == "negation"
                continue
            assert match.lastindex is not None
            by_case = self._longest_first[match.lastindex - 1]
            name = self._exact.get(match[0], by_case)
            if name < len(self._names):
                yield name, negated

    def _half(self, indices: Sequence[int], nothing: str) -> str:
        return ", ".join(self._names[index] for index in indices if index >= 0) or nothing

    def _check_names(self) -> None:
        """Raise :class:`DataError` unless every name can be parsed back, alone and in a list."""
        for name in self._names:
            if not re.search(r"\w", name) or name != name.strip(", \t\r\n"):
                raise DataError(
                    f"the category name {name!r} has no letters, or a comma or space at an end; rename it"
                )
        alone = np.arange(len(self._names))[:, None]
        nobody = np.full_like(alone, -1)
        for wanted in (Preferences(nobody, nobody), Preferences(alone, nobody), Preferences(nobody, alone)):
            read = self.read(self.write(wanted))
            for half, told in ((read.liked, wanted.liked), (read.disliked, wanted.disliked)):
                for row in np.flatnonzero(half[:, 0] != told[:, 0])[:1]:
                    name = self._names[max(half[row, 0], told[row, 0])]
                    raise DataError(
                        f"the category name {name!r} cannot be parsed from an answer, because it is a word "
                        "of the sentence or occurs twice in the list; rename it"
                    )
        for name in self._names:
            if clash := self._clash(name):
                raise DataError(
                    f"the category name {name!r} cannot be distinguished from a list that starts with {clash!r}; "
                    "rename one of them"
                )

    def _clash(self, name: str) -> str | None:
        """Find a name such that a list that begins with it may also be read as ``name``."""
        folded = name.casefold()
        if not any(joint.casefold() in folded for joint in (", ", DISLIKES)):
            return None
        others = [other.casefold() for other in self._names]
        for start in self._names:
            for joint in (", ", DISLIKES):
                head = (start + joint).casefold()
                rest = folded.removeprefix(head)
                if folded.startswith(head) and any(
                    other.startswith(rest) or rest.startswith(other) for other in others
                ):
                    return start
        return None


@lru_cache(maxsize=16)
def verbalizer_of(names: tuple[str, ...], field: str, max_labels: int) -> Verbalizer:
    """Return the cached verbalizer of some names; checking hundreds of names takes a second."""
    return Verbalizer(names, field, max_labels)


def nothing_named(field: str) -> tuple[str, str]:
    """Return the texts of an empty liked and an empty disliked list, for the category noun ``field``."""
    return f"no {field}", f"any {field}"


def _declines(text: str) -> bool:
    return " ".join(text.split()).rstrip(".! ").casefold() == NO_ANSWER.casefold()


def _as_pattern(phrase: str) -> str:
    return r"\s+".join(map(re.escape, phrase.split())).replace("'", "['’]")


def _padded(rows: Sequence[Sequence[int]], width: int) -> Ints:
    """Truncate ragged rows or pad them with -1, [B, width]."""
    return np.array([[*row[:width], *[-1] * (width - len(row))] for row in rows], dtype=np.int64).reshape(
        -1, width
    )
