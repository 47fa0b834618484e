"""Answers free-text questions about users from a recommender's scores and a user encoder's probabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy.special import ndtr

from palate.answers import sentences
from palate.answers.facts import drafted
from palate.answers.reasons import Explanation, ScoredBy, explain
from palate.answers.tastes import CategoryTastes, TasteView
from palate.errors import DataError, QuestionError, did_you_mean
from palate.recommend.scorer import popularity_weights
from palate.recommend.state import newest_windows
from palate.schema import Doubles, History
from palate.tasks.asked import ASKED, AskedKind
from palate.tasks.matching import CATEGORY, ITEM, QuestionMatcher, canonical
from palate.tasks.naming import CatalogueNames, NamedEntity

if TYPE_CHECKING:
    import polars as pl

    from palate.answers.writer import SentenceWriter
    from palate.recommend.recommender import Recommender
    from palate.recommend.state import TasteState

AnswerSource: TypeAlias = Literal["template", "written", "model"]
"""Origin of an answer's text: a filled template; a language model that words the facts of the template anew, checked
against them; or the language model that reads the user."""
VIEWED: tuple[AskedKind, ...] = ("preference", "liked", "disliked", "profile")
"""Kinds of questions that need a user encoder's category probabilities."""
LONGEST_QUESTION = 1_000
"""Maximum length of a question in characters, as names are searched at each word."""
LISTED = 3
"""Default number of items to recommend or to advise against."""
_TAKE_A_VIEW = "use  packaged  or a run of recipes/own-data.yaml, on data with at least 2 categories"
_TRAIN = "train one with  palate train recipes/recommend.yaml  on the same data, and name its run"
_USER_BY_ID = re.compile(
    r"\b(?:user|customer|person|member|client)\s+(?:id\s+|no\.?\s+|number\s+|#)?([\w-]*\d[\w-]*)",
    re.IGNORECASE,
)
ENCOUNTERED = 200
"""Number of most probable next items from which those to advise against are selected."""


@dataclass(frozen=True)
class AskedQuestion:
    """A question that has been matched to a kind."""

    text: str
    kind: AskedKind
    wording: str
    """The most similar known wording."""
    probability: float
    """Probability that the question is of this kind or another one that fits its entities."""
    entities: tuple[NamedEntity, ...]
    """Items and categories that the question names, or that were given with it."""

    @property
    def meaning(self) -> str:
        """Description of the kind."""
        return ASKED[self.kind].meaning


@dataclass(frozen=True)
class AnswerChance:
    """Probability of one of the possible answers."""

    of: str
    chance: float
    item_id: str | None = None


@dataclass(frozen=True)
class WordedAnswer:
    """An answer as a sentence, with its evidence."""

    user_id: str
    question: str
    kind: AskedKind
    wording: str
    """The most similar known wording."""
    match: float
    """Probability that the question is of this kind or another one that fits its entities."""
    entities: tuple[NamedEntity, ...]
    text: str
    source: AnswerSource
    personal: bool
    """False for a user without events, who gets the population's answer."""
    by: Literal["ratings", "next item", "view", "history"]
    """Score that decides the answer."""
    chances: tuple[AnswerChance, ...]
    reasons: tuple[Explanation, ...] = ()


@dataclass(frozen=True)
class KnownTaste:
    """Encoded user: the recommender's state, the user encoder's category probabilities (view), or both."""

    user_id: str
    state: TasteState | None = None
    view: TasteView | None = None


@dataclass(frozen=True)
class _Wish:
    """Number of items to list, and number of these to explain."""

    k: int
    explained: int


@dataclass(frozen=True)
class _Said:
    """Text and evidence of an answer, before the fields of the question are added."""

    text: str
    by: Literal["ratings", "next item", "view", "history"]
    chances: tuple[AnswerChance, ...] = ()
    reasons: tuple[Explanation, ...] = ()


class Answerer:
    """Answers free-text questions from a recommender and a user encoder's views, one of which may be missing.

    Args:
        recommender: Scores and rates items; None if only questions about categories are answered.
        matcher: Returns the question matcher; called lazily, as loading it may be slow.
        categories: Names of the categories; the recommender's if empty.
        field: Noun for a category, in the singular.
        views: Computes category probabilities of histories by a user encoder; None without such an encoder.
        items: Table of the items that questions may name; the recommender's, if there is one.
        writer: Writes the sentences; None for templates.

    Example:
        >>> answerer = palate.load_answerer("runs/recommender")
        >>> history = palate.History("me", ["3", "8"], [5.0, 2.0], [1704067200, 1704153600])
        >>> answerer.answer([history], "What should I recommend to this user?")[0].kind
        'recommendation'
    """

    def __init__(
        self,
        recommender: Recommender | None,
        matcher: Callable[[], QuestionMatcher],
        categories: Sequence[str] = (),
        field: str = "category",
        views: Callable[[Sequence[History]], list[TasteView]] | None = None,
        items: pl.DataFrame | None = None,
        writer: SentenceWriter | None = None,
    ) -> None:
        self.recommender, self.field, self.views, self.writer = recommender, field, views, writer
        self._items = items if recommender is None else recommender.items
        self._matcher = matcher
        self._categories = tuple(categories) or (() if recommender is None else recommender.facts.categories)

    @cached_property
    def tastes(self) -> CategoryTastes:
        """Tastes by category, from the recommender; raises :class:`QuestionError` without one."""
        return CategoryTastes(self._scores())

    @cached_property
    def names(self) -> CatalogueNames:
        """Names of the catalogue's categories and items, for lookup in questions."""
        items = self._items
        titles = [] if items is None else items["title"].to_list()
        years = [] if items is None else items["year"].to_list()
        return CatalogueNames(self._categories, titles, years, (CATEGORY, ITEM))

    def ask(
        self,
        question: str,
        item_ids: Sequence[str] = (),
        categories: Sequence[str] = (),
        user_id: str | None = None,
    ) -> AskedQuestion:
        """Match a question to a kind, with the entities that it names and those given with it.

        Args:
            question: The question; ``{item}`` and ``{category}`` are placeholders for the given entities, in order.
            item_ids: Items of the question, in addition to those that its text names.
            categories: Categories of the question, likewise.
            user_id: The user that the question is about; a question that names another user is refused.

        Returns:
            The question with its kind.

        Raises:
            QuestionError: The question matches no kind, its kind cannot be answered, or a name in it is ambiguous.
            DataError: A given item or category is unknown.
        """
        asked = self.matched(question, item_ids, categories, user_id)
        self.check_kind(asked.kind)
        return asked

    def matched(
        self,
        question: str,
        item_ids: Sequence[str] = (),
        categories: Sequence[str] = (),
        user_id: str | None = None,
        known: Collection[AskedKind] = (),
    ) -> AskedQuestion:
        """Match a question like :meth:`ask`, without checking that this answerer can answer its kind.

        ``known`` are kinds that are answered elsewhere, which an error message lists too.
        """
        if len(question) > LONGEST_QUESTION:
            raise QuestionError(
                f"found {len(question):,} characters, expected a question of at most {LONGEST_QUESTION:,}; ask a "
                "shorter one, and give items by their ids"
            )
        given = self._given(item_ids, categories)
        text = question.replace("{item}", f" {ITEM} ").replace("{category}", f" {CATEGORY} ")
        named = self.names.find(_about(text, user_id), [(one.kind, one.index) for one in given])
        said = {(one.kind, one.index) for one in named.entities}
        entities = (*named.entities, *(one for one in given if (one.kind, one.index) not in said))
        numbers = {kind: sum(one.kind == kind for one in entities) for kind in ("category", "item")}
        words = canonical(
            named.text, self.field, "item" if self.recommender is None else self.recommender.facts.item_noun
        )
        for kind, mark in (("category", CATEGORY), ("item", ITEM)):
            words += f" {mark}" * max(min(numbers[kind], 2) - words.split().count(mark), 0)
        found = self._matcher().match(words, numbers["category"], numbers["item"], {*known, *self.kinds})
        kind = "next-item" if found.kind == "item-pair" and numbers["item"] > 2 else found.kind
        return AskedQuestion(question, kind, found.wording, found.probability, entities)

    def answer(
        self,
        histories: Sequence[History],
        question: str,
        *,
        item_ids: Sequence[str] = (),
        categories: Sequence[str] = (),
        k: int = LISTED,
    ) -> list[WordedAnswer]:
        """Answer a question about each history; arguments and errors as for :meth:`ask` and :meth:`answer_each`."""
        user_id = histories[0].user_id if len(histories) == 1 else None
        asked = self.ask(question, item_ids, categories, user_id)
        return self.answer_each(self.known(histories, [asked.kind]), asked, k)

    def known(
        self, histories: Sequence[History], kinds: Collection[AskedKind] = tuple(ASKED)
    ) -> list[KnownTaste]:
        """Encode histories once, for any number of questions of the given kinds.

        Raises:
            DataError: An item is unknown, or a rating is not on the scale.
        """
        views: Sequence[TasteView | None] = [None] * len(histories)
        if self.views is not None and any(map(self.needs_view, kinds)):
            views = self.views(histories)
        states = [None if self.recommender is None else self.recommender.state(one) for one in histories]
        rows = zip(histories, states, views, strict=True)
        return [KnownTaste(history.user_id, state, view) for history, state, view in rows]

    def answer_each(
        self, users: Sequence[KnownTaste], asked: AskedQuestion, k: int = LISTED, explained: int | None = None
    ) -> list[WordedAnswer]:
        """Answer a matched question about each user.

        Args:
            users: The encoded users.
            asked: The question.
            k: Number of items to recommend or to advise against.
            explained: Number of these items with reasons, whose computation takes most of the time; None for all.
        """
        wish = _Wish(k, k if explained is None else explained)
        say = getattr(self, f"_say_{asked.kind.replace('-', '_')}")
        answers = []
        for user in users:
            said: _Said = say(user, asked, wish)
            personal = user.state is None or user.state.personal
            answers.append(
                WordedAnswer(
                    user.user_id,
                    asked.text,
                    asked.kind,
                    asked.wording,
                    asked.probability,
                    asked.entities,
                    *self._worded(said.text, asked.kind),
                    personal,
                    said.by,
                    said.chances,
                    said.reasons,
                )
            )
        return answers

    def _worded(self, marked: str, kind: AskedKind) -> tuple[str, AnswerSource]:
        """Return the text of a template with marked facts, written anew if there is a writer, and its source."""
        draft = drafted(marked)
        written = None if self.writer is None else self.writer.write(draft, kind)
        return (draft.text, "template") if written is None else (written, "written")

    @property
    def kinds(self) -> tuple[AskedKind, ...]:
        """Kinds that this answerer can answer."""
        return tuple(kind for kind in ASKED if self._lacking(kind) is None)

    @property
    def missing(self) -> dict[AskedKind, str]:
        """Kinds that cannot be answered, with what they need."""
        return {kind: lacking for kind in ASKED if (lacking := self._lacking(kind)) is not None}

    def check_kind(self, kind: AskedKind) -> None:
        """Raise :class:`QuestionError` for a kind that this answerer cannot answer."""
        if (lacking := self._lacking(kind)) is not None:
            raise QuestionError(f"a question about {ASKED[kind].meaning} ({kind}) needs {lacking}")

    def needs_recommender(self, kind: AskedKind) -> bool:
        """Whether there is no recommender and a kind would be answered, or answered better, with one."""
        return self.recommender is None and kind not in ("preference", "liked", "disliked")

    def needs_view(self, kind: AskedKind) -> bool:
        """Whether answers to a kind use the category probabilities of a user encoder."""
        rated = self.recommender is not None and self.recommender.ratings is not None
        return kind in (*VIEWED, "avoid") or (kind in ("yes-no", "pair") and not rated)

    def _lacking(self, kind: AskedKind) -> str | None:
        """Return what a kind needs and the answerer lacks, and how to get it; None if nothing is missing."""
        rated = self.recommender is not None and self.recommender.ratings is not None
        if kind in VIEWED and self.views is None:
            return f"a user encoder that predicts categories; {_TAKE_A_VIEW}"
        if kind in ("yes-no", "pair", "avoid") and not rated and self.views is None:
            return f"ratings, or a user encoder that predicts categories; {_TAKE_A_VIEW}"
        if (ASKED[kind].items[1] or kind == "recommendation") and self.recommender is None:
            return f"a recommender; {_TRAIN}"
        if kind == "rating" and not rated:
            return "data with ratings; ask whether the user would like the item, or which comes next"
        return None

    def _given(self, item_ids: Sequence[str], categories: Sequence[str]) -> list[NamedEntity]:
        known = {name: at for at, name in enumerate(self._categories)}
        if wrong := [name for name in categories if name not in known]:
            raise DataError(f"unknown category {wrong[0]!r}{did_you_mean(wrong[0], known)}")
        found = [self.names.entity("category", known[name]) for name in categories]
        if item_ids:
            found += [self.names.entity("item", int(at)) for at in self._scores().index_of(item_ids)]
        return found

    def _scores(self) -> Recommender:
        if self.recommender is None:
            raise QuestionError(f"questions about items need a recommender; {_TRAIN}")
        return self.recommender

    def _item_ids(self, asked: AskedQuestion) -> list[str]:
        ids = self._scores().item_ids
        found = list(dict.fromkeys(ids[one.index] for one in asked.entities if one.kind == "item"))
        if len(found) < ASKED[asked.kind].items[0]:
            raise QuestionError(
                f"{asked.text!r} names {len(found)} item, expected {ASKED[asked.kind].items[0]} different ones"
            )
        return found

    def _named_categories(self, asked: AskedQuestion) -> list[str]:
        found = list(dict.fromkeys(one.name for one in asked.entities if one.kind == "category"))
        if len(found) < ASKED[asked.kind].categories[0]:
            expected = ASKED[asked.kind].categories[0]
            raise QuestionError(
                f"{asked.text!r} names {len(found)} category, expected {expected} different ones"
            )
        return found

    def _title(self, item_id: str) -> str:
        return self.names.entity("item", int(self._scores().index_of([item_id])[0])).name

    def _say_preference(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        view = _view(user)
        return _Said(
            sentences.likes_and_dislikes(view, self.field), "view", _chances(view, "liked", "disliked")
        )

    def _say_liked(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        view = _view(user)
        return _Said(f"{sentences.likes(view, self.field).rstrip('.')}.", "view", _chances(view, "liked"))

    def _say_disliked(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        view = _view(user)
        return _Said(
            f"{sentences.dislikes(view, self.field).rstrip('.')}.", "view", _chances(view, "disliked")
        )

    def _say_profile(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        view, state = _view(user), user.state
        if state is None:
            text = f"{sentences.likes_and_dislikes(view, self.field).rstrip('.')}. {sentences.NOT_LATELY}"
            return _Said(text, "view", _chances(view, "liked", "disliked"))
        rated = self._scores().facts.feedback == "ratings"
        text = sentences.profile(
            view, self.tastes.counts(state), state.count, rated, self.field, self.tastes.changes(state)
        )
        return _Said(text, "view", _chances(view, "liked", "disliked"))

    def _say_yes_no(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        (name,) = self._named_categories(asked)
        if user.state is not None and user.state.ratings is not None:
            rating = next(one for one in self.tastes.ratings(user.state) if one.name == name)
            text = sentences.likes_category(rating, self._scores().facts.like_above)
            return _Said(text, "ratings", _yes_no(rating.chance))
        chance = _liked_rather(_view(user), name)
        return _Said(sentences.viewed_likes(name, chance), "view", _yes_no(chance))

    def _say_pair(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        first, second = self._named_categories(asked)
        means: tuple[float, float] | None = None
        by: Literal["ratings", "view"] = "view"
        if user.state is not None and user.state.ratings is not None:
            known = {one.name: one for one in self.tastes.ratings(user.state)}
            a, b = known[first], known[second]
            chance = float(ndtr((a.mean - b.mean) / np.hypot(a.sd, b.sd)))
            best, rest = (a, b) if chance >= 0.5 else (b, a)
            means = best.mean, rest.mean
            by = "ratings"
        else:
            view = _view(user)
            (a_like, a_not), (b_like, b_not) = view.log_odds[first], view.log_odds[second]
            chance = float(1 / (1 + np.exp(-((a_like - a_not) - (b_like - b_not)))))
        better, other = (first, second) if chance >= 0.5 else (second, first)
        chances = (AnswerChance(first, chance), AnswerChance(second, 1 - chance))
        return _Said(sentences.prefers(better, other, max(chance, 1 - chance), means), by, chances)

    def _say_rating(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        (item_id,) = self._item_ids(asked)
        state, recommender = _state(user), self._scores()
        if (had := self._had(state, item_id)) is not None:
            return had
        one = recommender.rate([state], [item_id])[0].items[0]
        values = np.asarray(recommender.facts.rating_values)
        chances = tuple(
            AnswerChance(f"{value:g}", chance)
            for value, chance in zip(values, rating_chances(values, one.rating, one.sd).tolist(), strict=True)
        )
        reasons = explain(recommender, state, item_id, "ratings", against=one.chance < 0.5)
        text = sentences.rates(self._title(item_id), one.rating, one.sd, float(values[-1]))
        return _Said(f"{text} {sentences.because_of(reasons, True)}", "ratings", chances, (reasons,))

    def _say_item_yes_no(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        (item_id,) = self._item_ids(asked)
        state, recommender = _state(user), self._scores()
        if (had := self._had(state, item_id)) is not None:
            return had
        title = self._title(item_id)
        if recommender.ratings is not None:
            one = recommender.rate([state], [item_id])[0].items[0]
            chance, by = one.chance, "ratings"
            text = sentences.likes_item(title, chance, recommender.facts.like_above)
        else:
            place, chance = self._place(state, item_id)
            by = "next item"
            text = sentences.takes_item(
                title, place, len(recommender.item_ids), chance, recommender.facts.item_noun
            )
        scored: ScoredBy = "ratings" if by == "ratings" else "next item"
        reasons = explain(recommender, state, item_id, scored, against=chance < 0.5 and scored == "ratings")
        because = sentences.because_of(reasons, by == "ratings", agrees=reasons.against == (chance < 0.5))
        return _Said(f"{text} {because}", scored, _yes_no(chance), (reasons,))

    def _say_item_pair(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        item_ids = self._item_ids(asked)
        state = _state(user)
        found = self._scores().choose([state], item_ids)[0]
        chances = tuple(AnswerChance(self._title(one), found.probabilities[one], one) for one in item_ids)
        other = next(one for one in item_ids if one != found.item_id)
        reasons = explain(self._scores(), state, found.item_id, found.by)
        text = sentences.prefers(
            self._title(found.item_id), self._title(other), found.probabilities[found.item_id]
        )
        return _Said(
            f"{text} {sentences.because_of(reasons, found.by == 'ratings')}", found.by, chances, (reasons,)
        )

    def _say_next_item(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        item_ids = self._item_ids(asked)
        recommender, state = self._scores(), _state(user)
        index = recommender.index_of(item_ids)
        scores = recommender.scorer.of_items(newest_windows([state]), index.astype(np.int64))
        logits = recommender.scorer.log_odds(scores)[0].astype(np.float64)
        odds = np.exp(logits - logits.max())
        share = odds / odds.sum()
        order = np.argsort(-share, kind="stable")
        chances = tuple(
            AnswerChance(self._title(item_ids[at]), float(share[at]), item_ids[at]) for at in order
        )
        reasons = explain(recommender, state, item_ids[order[0]])
        text = sentences.comes_next(chances[0].of, chances[0].chance, [one.of for one in chances[1:]])
        return _Said(
            f"{text} {sentences.because_of(reasons, recommender.ratings is not None)}",
            "next item",
            chances,
            (reasons,),
        )

    def _say_recommendation(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        recommender, state = self._scores(), _state(user)
        found = recommender.recommend([state], wish.k, categories=self._named_categories(asked))[0]
        chances = tuple(AnswerChance(self._title(one.item_id), one.share, one.item_id) for one in found.items)
        reasons = tuple(
            explain(recommender, state, one.item_id)
            for one in found.items[: wish.explained]
            if state.personal
        )
        text = sentences.recommended([one.of for one in chances], state.personal)
        if reasons:
            rated = recommender.ratings is not None
            text += f" {sentences.because_of(reasons[0], rated, first=len(chances) > 1)}"
        return _Said(text, "next item", chances, reasons)

    def _say_avoid(self, user: KnownTaste, asked: AskedQuestion, wish: _Wish) -> _Said:
        recommender, state, view = self.recommender, user.state, user.view
        chances = () if view is None else _chances(view, "disliked")
        if recommender is None or recommender.ratings is None or state is None:
            return _Said(sentences.avoided(view, [], self.field), "view", chances)
        near = [one.item_id for one in recommender.recommend([state], ENCOUNTERED)[0].items]
        rated = sorted(recommender.rate([state], near)[0].items, key=lambda one: one.chance)[: wish.k]
        bad = [one for one in rated if one.chance < 0.5]
        reasons = tuple(
            explain(recommender, state, one.item_id, "ratings", against=True) for one in bad[: wish.explained]
        )
        items = tuple(AnswerChance(self._title(one.item_id), 1 - one.chance, one.item_id) for one in bad)
        text = sentences.avoided(view, [one.of for one in items], self.field)
        return _Said(text, "ratings", (*chances, *items), reasons)

    def _had(self, state: TasteState, item_id: str) -> _Said | None:
        """Return the answer about an item of the history; None if the item is not in it."""
        recommender = self._scores()
        index, title = int(recommender.index_of([item_id])[0]), self._title(item_id)
        if index not in state.seen:
            return None
        rows = np.flatnonzero(state.item_index == index)
        if recommender.ratings is None or not len(rows):
            return _Said(sentences.had_already(title), "history")
        value = recommender.facts.rating_values[state.rating_index[rows[-1]]]
        return _Said(sentences.rated_already(title, f"{value:g}"), "history")

    def _place(self, state: TasteState, item_id: str) -> tuple[int, float]:
        """Compute an item's rank among all, and the popularity-weighted fraction of other items that rank below it."""
        recommender = self._scores()
        index = int(recommender.index_of([item_id])[0])
        scores = recommender.scores([state])[0]
        weights = popularity_weights(recommender.scorer.popularity)
        weights[index] = 0
        below = scores < scores[index]
        return int((scores > scores[index]).sum()) + 1, float(
            weights[below].sum() / max(weights.sum(), 1e-12)
        )


def rating_chances(values: Doubles, mean: float, sd: float) -> Doubles:
    """Compute the probabilities [R] of the ratings of a scale, as bins of a normal distribution cut midway between."""
    middles = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    found: Doubles = np.diff(ndtr((middles - mean) / sd))
    return found


def _about(text: str, user_id: str | None) -> str:
    """Replace the id of the user in a question by "this user"; raises :class:`QuestionError` for another id."""
    for found in _USER_BY_ID.finditer(text):
        if found[1] != user_id:
            raise QuestionError(
                f"the question is about {found[0]!r}, and another user or none is given; write 'this user' in it, and "
                "give the user separately"
            )
        text = text.replace(found[0], "this user")
    return text


def _state(user: KnownTaste) -> TasteState:
    assert user.state is not None, "with a recommender, each user has a state"
    return user.state


def _view(user: KnownTaste) -> TasteView:
    if user.view is None:
        raise QuestionError(
            f"there are no category probabilities of the user {user.user_id!r}; use a model whose user encoder "
            "predicts categories"
        )
    return user.view


def _yes_no(chance: float) -> tuple[AnswerChance, ...]:
    return AnswerChance("yes", chance), AnswerChance("no", 1 - chance)


def _liked_rather(view: TasteView, name: str) -> float:
    """Compute the probability that a category is liked rather than disliked."""
    liked, disliked = view.log_odds[name]
    return float(1 / (1 + np.exp(disliked - liked)))


def _chances(view: TasteView, *halves: Literal["liked", "disliked"]) -> tuple[AnswerChance, ...]:
    return tuple(AnswerChance(one.name, one.chance) for half in halves for one in getattr(view, half))
