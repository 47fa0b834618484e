"""Classifies free questions by kind, with a classifier fitted to the wordings of :mod:`palate.tasks.asked`.

A logistic regression over words, characters and groups of synonyms, and over sentence vectors if there is an encoder,
is fitted to the wordings and to questions of no kind on first use: deterministic, in about a second.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from palate.errors import QuestionError
from palate.schema import Doubles, Floats
from palate.tasks.asked import ASKED, AskedKind
from palate.tasks.asked_styles import fitted_wordings
from palate.words import plural

Encode: TypeAlias = Callable[[Sequence[str]], Floats]
"""Function from N texts to unit vectors [N, S]."""

CATEGORY, ITEM, USER = "somecategory", "someitem", "theuser"
"""Placeholders for an entity, and for the user, in a canonical question."""
ACCEPTED = 0.6
"""Minimum probability that a text is a question of a kind consistent with the entities it names.

In cross-validation by style (``benchmarks/matching.py --styles``), 3.2% of the questions of no kind are accepted, and
84% of the others are matched correctly, with an encoder. Held-out wordings were not used."""
REGULARISATION = 2.0
"""Inverse strength of the regression's penalty, from the same cross-validation."""
NOT_ASKED_GAIN = 12.0
"""Weight of the questions of no kind in the regression, relative to those of one kind: that of all kinds together."""
GROUPS_GAIN, VECTORS_GAIN = 1.5, 1.5
"""Scale of the features of synonym groups, and of sentence vectors, relative to words and characters."""

_PEOPLE = (
    "user|customer|person|viewer|reader|listener|member|client|shopper|buyer|player|guest|subscriber|visitor"
    "|account(?: holder)?|consumer|patron|individual|guy|lady"
)
_CANONICAL = tuple(
    (re.compile(pattern), word)
    for pattern, word in (
        ("[’`´]", "'"),
        (r"^(?:hey|so|ok|well|please)\b,?", " "),
        (r"\bplease\b", " "),
        (
            r"\b(?:(?:can|could) you tell me|i would like to know|i was wondering|it would help to know|do you know|"
            r"i am curious|tell me)\b,?",
            " ",
        ),
        (r"\b(?:this|the|that|our|my) (?:" + _PEOPLE + r")\b", USER),
        (r"\b(?:he|she|they|him|them|i|me)\b", USER),
        (r"\b(?:her|his|their|my)\b", f"{USER}'s"),
        (r"\bfavou?rites?\b", "favorite"),
        (r"\b(?:ca|wo)n't\b", "cannot"),
        (r"n't\b", " not"),
        (r"[^\w\s']", " "),
    )
)
_GROUPS = {
    name: re.compile(rf"^(?:{words})$")
    for name, words in {
        "like": r"likes?|liked|liking|enjoy(?:s|ed|ing)?|loves?|loved|fond|into|fans?|prefers?|preferred|preferences?|"
        r"favorites?|appeals?|interest(?:ed|s)?|cares?|tastes?|hits?|delights?|adores?|suits?|likings?",
        "hate": r"dislik(?:es?|ed|ing)|hat(?:es?|ed)|loathes?|detests?|annoys?|regrets?|wrong|bad|worst|bores?|turns?|"
        r"miss|unsuitable|hates?",
        "shun": r"avoid(?:s|ed|ing)?|skip(?:s|ped)?|never|away|clear|off|hidden|hide|exclude|out",
        "least": "least",
        "most": "most|best|top",
        "recommend": r"recommend(?:ed|s|ation|ations)?|suggest(?:ed|s|ion|ions)?|proposes?|proposed|shown?|"
        r"offer(?:ed|s)?|ideas?|try|find|give",
        "next": "next|then|following|afterwards|upcoming",
        "rate": r"rat(?:e|es|ed|ing|ings)|stars?|scores?|grade|marks?|points",
        "describe": r"describe|profile|portrait|summary|sum(?:marise|marize)?|character(?:ise|ize)|about|who|know",
        "change": r"chang(?:e|es|ed)|lately|recently|new|develop(?:ed|s)?|different|shifted",
        "or": "or|rather|than|versus|vs|between|over|compare|either",
        "and": "and|both",
        "choose": "choose|pick|better|more|which|decide|select|rank|order",
        "not": "not|no|without|cannot|stand",
        "field": "category|categories|kinds?|types?|sorts?",
        "thing": "items?|something",
        "others": r"users|people|everyone|everybody|others?|another|friends?|wife|husband|mother|father|brother|"
        r"sister|boss|neighbou?r|anyone|else|women|men|all|someone|otheruser|customers|daughter|son|kids?|children",
        "fact": "popular|average|difference|common|price|cost|cheaper|older|when|where|many|much|long|yesterday",
        "you": "you|your|yourself",
        CATEGORY: CATEGORY,
        ITEM: ITEM,
        USER: rf"{USER}(?:'s)?",
    }.items()
}
_COMMON = frozenset([
    "a", "an", "the", "to", "of", "in", "on", "for", "with", "and", "it", "is", "are", "be", "do",
    "does", "as", "at", "by",
])  # fmt: skip
_SUBJECTS = {USER: "this user", CATEGORY: "this category", ITEM: "this item"}


@dataclass(frozen=True)
class QuestionMatch:
    """The kind of a question, the nearest wording of that kind, and the probability of an accepted kind."""

    kind: AskedKind
    wording: str
    probability: float


class QuestionMatcher:
    """Matches free questions to the kinds of :data:`palate.tasks.asked.ASKED`.

    Args:
        encode: Sentence encoder; None to match by words and characters alone.
        encode_question: Encoder of questions, if only wordings should be cached; ``encode`` if None.
        without: Wordings to exclude from the fit, for cross-validation.
    """

    def __init__(
        self,
        encode: Encode | None = None,
        encode_question: Encode | None = None,
        without: Collection[str] = (),
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._encode = encode
        examples = [one for one in fitted_wordings() if one.wording not in without]
        known = [(one.kind, one.wording) for one in examples if one.kind is not None]
        others = [one.wording for one in examples if one.kind is None]
        self._wordings = known
        texts = [bare(wording) for _, wording in known] + [bare(one) for one in others]
        kinds = [kind for kind, _ in known] + [None] * len(others)
        self._counts = Counter(word for text in texts[: len(known)] for word in set(text.split()))
        as_words = {"token_pattern": r"[^\s]+", "sublinear_tf": True}
        self._words = TfidfVectorizer(ngram_range=(1, 3), **as_words).fit(texts)
        self._characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(
            texts
        )
        grouped = [self._groups(text, of_known=number < len(known)) for number, text in enumerate(texts)]
        self._grouped = TfidfVectorizer(analyzer=_as_it_is, use_idf=False).fit(grouped)
        features = self._features(texts, grouped)
        self._known = features[: len(known)]
        self._encode = encode_question or encode
        targets = ["" if kind is None else kind for kind in kinds]
        balanced = {kind: len(targets) / number for kind, number in Counter(targets).items()}
        balanced[""] *= NOT_ASKED_GAIN
        model = LogisticRegression(C=REGULARISATION, max_iter=2_000, class_weight=balanced)
        self._model: Any = model.fit(features, targets)

    def match(
        self, text: str, categories: int, items: int, known: Collection[AskedKind] = tuple(ASKED)
    ) -> QuestionMatch:
        """Match a question.

        Args:
            text: The canonical question, see :func:`canonical`.
            categories: Number of categories that it names.
            items: Number of items that it names.
            known: Kinds that can be answered, listed in the error.

        Returns:
            The match.

        Raises:
            QuestionError: The question is of no kind, or of a kind that names other numbers of entities.
        """
        found, fitting = self._found(text, categories, items)
        accepted = sum(fitting.values())
        if accepted < ACCEPTED:
            likeliest = max(ASKED, key=lambda kind: found[kind])
            if likeliest not in fitting and 1 - found[""] >= ACCEPTED:
                raise QuestionError(_lacks(likeliest, categories, items))
            raise QuestionError(
                f"this is not a question about a user that can be answered; expected {kinds_in_words(known)}"
            )
        kind = max(fitting, key=lambda one: fitting[one])
        return QuestionMatch(kind, self._nearest(text, kind), accepted)

    def likeliest(self, text: str, categories: int, items: int) -> tuple[AskedKind | None, float]:
        """Return the likeliest kind among those that fit a question's entities, and the probability of them all.

        The arguments are those of :meth:`match`; the kind is None if none fits.
        """
        _, fitting = self._found(text, categories, items)
        return max(fitting, key=lambda one: fitting[one], default=None), sum(fitting.values())

    def _found(
        self, text: str, categories: int, items: int
    ) -> tuple[dict[str, float], dict[AskedKind, float]]:
        """Return the probabilities of all classes, and those of the kinds that name as many entities."""
        found = dict(zip(self.classes, self.probabilities([text])[0].tolist(), strict=True))
        fitting = {
            kind: found[kind] for kind in ASKED if _between(ASKED[kind].categories, categories)
            and _between(ASKED[kind].items, items)
        }  # fmt: skip
        return found, fitting

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of :meth:`probabilities`: the kinds, and "" for none."""
        return tuple(self._model.classes_)

    def probabilities(self, texts: Sequence[str]) -> Doubles:
        """Compute the class probabilities of N canonical questions, [N, 1 + kinds]."""
        grouped = [self._groups(text, of_known=False) for text in texts]
        found: Doubles = self._model.predict_proba(self._features(texts, grouped))
        return found

    def _nearest(self, text: str, kind: AskedKind) -> str:
        rows = [row for row, (of, _) in enumerate(self._wordings) if of == kind]
        own = self._features([text], [self._groups(text, of_known=False)])
        likeness = np.asarray((self._known[rows] @ own.T).todense())[:, 0]
        return self._wordings[rows[int(np.argmax(likeness))]][1]

    def _features(self, texts: Sequence[str], grouped: Sequence[list[str]]) -> sparse.csr_matrix:
        parts = [
            self._words.transform(texts),
            self._characters.transform(texts),
            self._grouped.transform(grouped) * GROUPS_GAIN,
        ]
        if self._encode is not None:
            readable = [_readable(text) for text in texts]
            parts.append(sparse.csr_matrix(VECTORS_GAIN * self._encode(readable)))
        return sparse.hstack(parts).tocsr()

    def _groups(self, text: str, of_known: bool) -> list[str]:
        """List the synonym groups in a text, and their pairs; and whether it has words that occur in no wording.

        With ``of_known`` the text is one of the wordings, and its own words do not count as occurrences.
        """
        words = text.split()
        found = {name for word in words for name, pattern in _GROUPS.items() if pattern.match(word)}
        found |= {f"{one}s" for one in (CATEGORY, ITEM) if words.count(one) > 1}
        unknown = sum(
            self._counts[word] <= of_known
            and word not in _COMMON
            and not any(p.match(word) for p in _GROUPS.values())
            for word in words
        )
        found |= {name for name, least in (("unknown", 1), ("unknowns", 2)) if unknown >= least}
        listed = sorted(found)
        return listed + [f"{a} {b}" for at, a in enumerate(listed) for b in listed[at + 1 :]]


def canonical(text: str, field: str = "category", thing: str = "item") -> str:
    """Normalise a question: remove differences between users and catalogues.

    Args:
        text: The question, with the placeholders :data:`CATEGORY` and :data:`ITEM` for entities.
        field: Singular noun for a category.
        thing: Singular noun for an item.

    Returns:
        Lower-case words without punctuation; the user is :data:`USER`, categories are "categories" and items "items".
    """
    text = text.casefold()
    for noun, word in ((field, "category"), (thing, "item")):
        for form, of in ((plural(noun), plural(word)), (noun, word)):
            text = re.sub(rf"\b{re.escape(form.casefold())}\b", of, text)
    text = re.sub(r"\b(?:genre|movie|film|product|title)(s?)\b", lambda one: _SYNONYMS[one[0]], text)
    for pattern, word in _CANONICAL:
        text = pattern.sub(word, text)
    words = text.split()
    return " ".join(word for at, word in enumerate(words) if words[max(at - 2, 0) : at] != [word] * 2)


_SYNONYMS = {
    "genre": "category", "genres": "categories",
    **dict.fromkeys(("movie", "film", "product", "title"), "item"),
    **dict.fromkeys(("movies", "films", "products", "titles"), "items"),
}  # fmt: skip


def kinds_in_words(kinds: Collection[AskedKind]) -> str:
    """List the kinds of questions in words, for errors."""
    return "one about " + "; ".join(f"{ASKED[kind].meaning} ({kind})" for kind in ASKED if kind in kinds)


def bare(wording: str) -> str:
    """Return the :func:`canonical` form of a wording."""
    words = {
        "field": "category",
        "fields": "categories",
        "thing": "item",
        "things": "items",
        "low": "1",
        "high": "5",
    }
    entities = {"category": CATEGORY, "other": CATEGORY, "item": ITEM, "another": ITEM}
    return canonical(wording.format(**words, **entities))


def _readable(text: str) -> str:
    """Replace the placeholders of a canonical question by words, for the sentence encoder."""
    for word, said in _SUBJECTS.items():
        text = text.replace(word, said)
    return text


def _lacks(kind: AskedKind, categories: int, items: int) -> str:
    asked = ASKED[kind]
    named = {"category": (asked.categories, categories), "item": (asked.items, items)}
    wants = " and ".join(
        f"{most[0]} or more {plural(noun)}"
        if most[1] > 2
        else f"{most[0]} {noun if most[0] == 1 else plural(noun)}"
        for noun, (most, _) in named.items()
        if most[1]
    )
    found = " and ".join(
        f"{count} {noun if count == 1 else plural(noun)}" for noun, (_, count) in named.items()
    )
    return (
        f"this asks {asked.meaning}, which needs {wants or 'no name'} of the catalogue; found {found}; write names as "
        "in the catalogue, in quotes if they are common words, or give them as entities"
    )


def _between(bounds: tuple[int, int], count: int) -> bool:
    return bounds[0] <= count <= bounds[1]


def _as_it_is(groups: list[str]) -> list[str]:
    return groups
