"""Finds the categories and items of a catalogue that a free question names, by exact or unambiguous fuzzy match.

An ambiguous name, or an unknown name in quotes, raises an error that lists candidates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from palate.errors import QuestionError
from palate.tasks.asked_styles import fitted_wordings
from palate.words import plural, singular

if TYPE_CHECKING:
    from scipy import sparse

SHOWN = 5
"""Maximum number of candidates in an error."""
CLOSE, SURE, AHEAD = 0.6, 0.8, 0.1
"""Similarity of names (difflib's ratio): minimum for a suggestion, minimum for a match, and its lead over others."""
COMPARED = 50
"""Number of names compared by difflib: those that share most character n-grams."""
LONGEST = 20
"""Maximum number of words of a name."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]+)[\"“”«»]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")
_YEAR = re.compile(r"\s*\((\d{4})\)")
_ARTICLES = ("the", "a", "an", "der", "die", "das", "la", "le", "les", "il", "el", "los")


@dataclass(frozen=True)
class NamedEntity:
    """A category or an item that a question names."""

    kind: Literal["category", "item"]
    index: int
    """Index into the catalogue's categories or items."""
    name: str
    """Name in the catalogue."""
    said: str
    """Text in the question; empty for an entity that was given separately."""


@dataclass(frozen=True)
class NamedThings:
    """Entities that a question names, and its text with placeholders for them."""

    text: str
    entities: tuple[NamedEntity, ...]


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    candidates: tuple[tuple[str, int], ...]


class CatalogueNames:
    """Index of the names of a catalogue.

    Args:
        categories: Names of the L categories.
        titles: Titles of the I items.
        years: Their years; None for an item without one.
        marks: Placeholders of a category and of an item in the text of :class:`NamedThings`.
    """

    def __init__(
        self,
        categories: Sequence[str],
        titles: Sequence[str],
        years: Sequence[int | None],
        marks: tuple[str, str],
    ) -> None:
        self.categories, self.titles, self.years = categories, titles, years
        self._marks = dict(zip(("category", "item"), marks, strict=True))

    @cached_property
    def _exact(self) -> dict[str, list[tuple[str, int]]]:
        """Entities by their normalised names and short forms."""
        found: dict[str, list[tuple[str, int]]] = {}
        for index, name in enumerate(self.categories):
            for form in dict.fromkeys(_plain(one) for one in (name, plural(name), singular(name))):
                found.setdefault(form, []).append(("category", index))
        for index, title in enumerate(self.titles):
            for form in _forms(title):
                if form:
                    found.setdefault(form, []).append(("item", index))
        return found

    def find(self, text: str, meant: Collection[tuple[str, int]] = ()) -> NamedThings:
        """Find the entities that a question names, longest names first.

        Args:
            text: The question.
            meant: Entities by kind and index that resolve ambiguous names.

        Returns:
            The entities, in the order of the text.

        Raises:
            QuestionError: A name is ambiguous, or a quoted or capitalised name is unknown.
        """
        words = [(word.start(), word.end()) for word in _WORD.finditer(text)]
        spans = [*self._quoted(text)]
        taken = [(one.start, one.end) for one in spans]
        at = 0
        while at < len(words):
            span = None if _inside(words[at], taken) else self._at(text, words, at)
            if span is None:
                at += 1
                continue
            spans.append(span)
            while at < len(words) and words[at][1] <= span.end:
                at += 1
        taken = [(one.start, one.end) for one in spans]
        spans += list(self._fuzzy(text, words, taken))
        parts, entities, end = [], [], 0
        for span in sorted(spans, key=lambda one: one.start):
            kind, index = self._only(text[span.start : span.end], span.candidates, meant)
            parts += [text[end : span.start], f" {self._marks[kind]} "]
            said, end = text[span.start : span.end], span.end
            entities.append(self.entity(kind, index, said))
        return NamedThings("".join([*parts, text[end:]]), tuple(entities))

    def entity(self, kind: str, index: int, said: str = "") -> NamedEntity:
        """Create the entity of a category or an item from its index."""
        if kind == "category":
            return NamedEntity("category", index, self.categories[index], said)
        return NamedEntity("item", index, self._dated(index), said)

    def _at(self, text: str, words: list[tuple[int, int]], at: int) -> _Span | None:
        """Find the longest name that starts at a word."""
        for last in range(min(at + LONGEST, len(words)) - 1, at - 1, -1):
            start, end = words[at][0], words[last][1]
            said = text[start:end]
            candidates = self._exact.get(_plain(said))
            if candidates and self._is_a_name(text, said, start, candidates):
                return self._with_year(text, start, end, candidates)
        return None

    def _with_year(self, text: str, start: int, end: int, candidates: list[tuple[str, int]]) -> _Span:
        """Extend a name by a year in brackets, which selects between items of the same title."""
        year = _YEAR.match(text, end)
        if year is not None:
            dated = [one for one in candidates if one[0] == "item" and self._year(one[1]) == int(year[1])]
            return _Span(start, year.end(), tuple(dated or candidates))
        return _Span(start, end, tuple(candidates))

    def _is_a_name(self, text: str, said: str, start: int, candidates: list[tuple[str, int]]) -> bool:
        """Return whether words are a name; a title of common words is one only if it is capitalised."""
        if any(kind == "category" for kind, _ in candidates) and _plain(said) not in _COMMON:
            return True
        words = [_plain(word) for word in _WORD.findall(said)]
        if any(word not in _COMMON and not word.isdigit() for word in words):
            return True
        first = not _WORD.search(text[:start])
        capital = all(word[:1].isupper() or word[:1].isdigit() for word in _WORD.findall(said))
        return (
            capital
            and not (first and len(words) == 1)
            and any(not word.isdigit() for word in words)
            and said != "I"
        )

    def _quoted(self, text: str) -> Iterator[_Span]:
        for found in _QUOTED.finditer(text):
            said = found[1] or found[2]
            without = _YEAR.sub("", said)
            candidates = self._exact.get(_plain(without)) or self._exact.get(_plain(said))
            if candidates and (year := _YEAR.search(said)):
                dated = [one for one in candidates if one[0] == "item" and self._year(one[1]) == int(year[1])]
                candidates = dated or candidates
            if not candidates:
                candidates = self._close(said)
            if not candidates:
                raise QuestionError(f"no category or item is called {said!r}{self._nearest_in_words(said)}")
            yield _Span(found.start(), found.end(), tuple(candidates))

    def _fuzzy(
        self, text: str, words: list[tuple[int, int]], taken: list[tuple[int, int]]
    ) -> Iterator[_Span]:
        """Find misspelt names: runs of capitalised words, and single words similar to a category."""
        run: list[tuple[int, int]] = []
        for at, word in enumerate([*words, None]):
            said = "" if word is None else text[slice(*word)]
            capital = (
                word is not None and not _inside(word, taken) and (said[0].isupper() or (run and said[0].isdigit()))
                and at > 0 and _plain(said) not in _COMMON
            )  # fmt: skip
            if word is not None and capital:
                run.append(word)
                continue
            if run:
                whole = text[run[0][0] : run[-1][1]]
                if candidates := self._close(whole):
                    yield _Span(run[0][0], run[-1][1], tuple(candidates))
                else:
                    raise QuestionError(
                        f"no category or item is called {whole!r}{self._nearest_in_words(whole)}"
                    )
                run = []
            elif (
                word is not None
                and not _inside(word, taken)
                and len(said) > 4
                and _plain(said) not in _COMMON
            ):
                near = [one for one in self._close(said) if one[0] == "category"]
                if near:
                    yield _Span(*word, tuple(near))

    def _close(self, said: str) -> list[tuple[str, int]]:
        """List the most similar entity and those within :data:`AHEAD` of it, if it is similar enough."""
        ranked = self._ranked(said)
        if not ranked or ranked[0][1] < SURE:
            return []
        return [one for one, likeness in ranked if likeness > ranked[0][1] - AHEAD]

    def _nearest_in_words(self, said: str) -> str:
        near = [self._in_words(one) for one, likeness in self._ranked(said) if likeness >= CLOSE][:SHOWN]
        return f"; did you mean {' or '.join(near)}?" if near else ""

    def _ranked(self, said: str) -> list[tuple[tuple[str, int], float]]:
        if not self.categories and not self.titles:
            return []
        vectorizer, matrix = self._letters
        plain = _plain(said)
        shared = np.asarray((matrix @ vectorizer.transform([plain]).T).todense())[:, 0]
        compared = SequenceMatcher(b=plain, autojunk=False)
        found = []
        for row in np.argsort(-shared, kind="stable")[:COMPARED].tolist():
            name = self._plain_names[row]
            if shared[row] > 0 and _numbers(plain) <= _numbers(name):
                compared.set_seq1(name)
                found.append((self._entity_of(row), compared.ratio()))
        return sorted(found, key=lambda one: -one[1])

    def _entity_of(self, row: int) -> tuple[str, int]:
        number = len(self.categories)
        return ("category", row) if row < number else ("item", row - number)

    @cached_property
    def _plain_names(self) -> list[str]:
        return [*map(_plain, self.categories), *(_forms(title)[-1] for title in self.titles)]

    @cached_property
    def _letters(self) -> tuple[Any, sparse.csr_matrix]:
        from sklearn.feature_extraction.text import HashingVectorizer

        vectorizer = HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 3), n_features=2**18, alternate_sign=False, dtype=np.float32
        )
        return vectorizer, vectorizer.transform(self._plain_names).tocsr()

    def _only(
        self, said: str, candidates: Sequence[tuple[str, int]], meant: Collection[tuple[str, int]]
    ) -> tuple[str, int]:
        known = [one for one in candidates if one in meant]
        candidates = known or candidates
        if len(candidates) == 1:
            return candidates[0]
        some = "; ".join(self._in_words(one) for one in candidates[:SHOWN])
        more = ", …" if len(candidates) > SHOWN else ""
        raise QuestionError(
            f"{said.strip()!r} may be {len(candidates)} names: {some}{more}; write the full name with its year, or "
            "give the entity by its id"
        )

    def _in_words(self, one: tuple[str, int]) -> str:
        kind, index = one
        return f"the category {self.categories[index]!r}" if kind == "category" else repr(self._dated(index))

    def _dated(self, index: int) -> str:
        title, year = self.titles[index], self._year(index)
        return title if year is None or f"({year})" in title else f"{title} ({year})"

    def _year(self, index: int) -> int | None:
        given = self.years[index]
        if given is not None:
            return given
        found = _YEAR.search(self.titles[index])
        return int(found[1]) if found else None


def _plain(text: str) -> str:
    """Normalise a text: no case, accents or punctuation."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(one for one in letters if not unicodedata.combining(one))
    return " ".join(re.sub(r"[^\w]+", " ", re.sub(r"(?<=\w)['’](?=\w)", "", kept)).split())


def _forms(title: str) -> list[str]:
    """List the normalised forms of a title: full, without year and brackets, article first, without article."""
    bare = _YEAR.sub("", title).strip()
    forms = [title, bare, re.sub(r"\s*\([^)]*\)", "", bare)]
    for form in forms[1:]:
        head, comma, article = form.rpartition(", ")
        if comma and article.casefold() in _ARTICLES:
            forms += [f"{article} {head}", head]
        elif form.casefold().split(" ")[0] in ("the", "a", "an") and len(form.split()) > 1:
            forms.append(form.split(" ", 1)[1])
    return list(dict.fromkeys(map(_plain, forms)))


def _numbers(plain: str) -> set[str]:
    return {word for word in plain.split() if word.isdigit()}


def _inside(word: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    return any(start < word[1] and word[0] < end for start, end in spans)


def _common_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    wordings = [one.wording for one in fitted_wordings()]
    words = {"category", "categories", "item", "items", "thing", "things"}
    words |= {_plain(word) for wording in wordings for word in _WORD.findall(re.sub(r"\{\w+\}", "", wording))}
    return frozenset(word for word in words | set(ENGLISH_STOP_WORDS) if not word.isdigit())


_COMMON = _common_words()
"""Common words of questions, which are names only if capitalised or quoted."""
