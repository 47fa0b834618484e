"""Free-text questions of the server: matched to a kind, then answered from scores or by the language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, TypeVar

from palate.answers import sentences
from palate.answers.answerer import Answerer, AskedQuestion, KnownTaste, WordedAnswer
from palate.answers.facts import drafted
from palate.answers.load import answerer_of
from palate.answers.reasons import explain
from palate.answers.tastes import TasteView, views_of_prompt
from palate.answers.trained import TRAINED, in_trained_words
from palate.answers.writer import SentenceWriter
from palate.errors import QuestionError
from palate.model.model import PersonalizedModel
from palate.recommend.recommender import Recommender
from palate.recommend.state_bytes import unpack_state
from palate.schema import Item
from palate.serve.engine import ServedModel, Users
from palate.serve.recommending import AT_ONCE, ServedRecommender
from palate.serve.responses import AskableQuestion, Explained
from palate.serve.schemas import SentExplanation, SentQuestion, SentUser
from palate.serve.settings import Limits
from palate.serve.waiting import Turns, acquired, check_awaited
from palate.tasks.asked import ASKED
from palate.tasks.questions import Question
from palate.tasks.wordings import NAMING
from palate.words import plural

T = TypeVar("T")
MOST_LISTED = 10
"""Maximum number of items in a worded answer; each is explained by an ablation of the history."""


@dataclass(frozen=True)
class AskedOfModel:
    """A question for the language model, rephrased in a wording that it was trained on."""

    asked: AskedQuestion
    question: Question


class AnswerableNames(NamedTuple):
    """The categories that answers may name, and the noun for a category, in the singular."""

    categories: Sequence[str]
    field: str


class Answering:
    """Matches free-text questions and answers them from scores; generation is left to the batcher."""

    def __init__(self, users: Users, limits: Limits, writer: SentenceWriter | None = None) -> None:
        self._users, self._limits, self._writer = users, limits, writer
        self._turns = Turns(AT_ONCE, limits.waiting)
        self._matching = Lock()
        self._made: tuple[object, object, Answerer] | None = None

    async def take(self, work: Callable[[], T]) -> T:
        """Run work in a bounded thread pool; raises :class:`OverloadedError` if its queue is full."""
        return await self._turns.take(work)

    def names(self) -> AnswerableNames:
        """Return the categories that answers may name, and the noun for a category."""
        answerer = self._answerer()
        return AnswerableNames(answerer.names.categories, answerer.field)

    def askable(self, thing: str) -> list[AskableQuestion]:
        """List the kinds of questions that the served models can answer, each with an example wording.

        Args:
            thing: Noun for an item, in the singular.
        """
        answerer, model, known = self._answerer(), self._users.model, self._users.catalogue
        trained = () if model is None else model.trained_kinds
        kinds = {*answerer.kinds, *(kind for kind in trained if kind in TRAINED)}
        words = {
            "field": answerer.field,
            "fields": plural(answerer.field),
            "thing": thing,
            "things": plural(thing),
            "low": f"{known.scale[0]:g}",
            "high": f"{known.scale[-1]:g}",
            **dict.fromkeys(("category", "other"), "{category}"),
            **dict.fromkeys(("item", "another"), "{item}"),
        }
        return [
            AskableQuestion(
                kind=kind,
                wording=asked.fitted[0].format(**words),
                items=asked.items[0],
                categories=asked.categories[0],
            )
            for kind, asked in ASKED.items()
            if kind in kinds
        ]

    def asked(self, sent: SentQuestion, place: str) -> AskedQuestion | AskedOfModel:
        """Match a question to a kind; raises :class:`QuestionError` if no served model can answer it."""
        assert sent.instruction is not None
        self._limits.check_count(f"{place}k", sent.k, MOST_LISTED, "ask for fewer")
        self._limits.check_count(f"{place}item_ids", len(sent.item_ids), self._limits.listed)
        model, answerer = self._users.model, self._answerer()
        trained = () if model is None else model.trained_kinds
        with acquired(self._matching):
            asked = answerer.matched(sent.instruction, sent.item_ids, sent.categories, sent.user_id, trained)
        said_by_model = asked.kind in NAMING or self._users.recommender is None
        if model is not None and asked.kind in trained and said_by_model and asked.kind in TRAINED:
            return AskedOfModel(asked, _in_trained_words(model.model, asked))
        answerer.check_kind(asked.kind)
        return asked

    def answer(self, sent: SentQuestion, asked: AskedQuestion) -> tuple[int | None, WordedAnswer]:
        """Answer from scores and category views; returns the version of a stored history, and the answer."""
        check_awaited()
        version, user, answerer = self._known(sent, self._answerer().needs_view(asked.kind))
        return version, answerer.answer_each([user], asked, sent.k)[0]

    def explain(self, sent: SentExplanation) -> Explained:
        """Explain an item's score by a user's history; raises what :meth:`Recommending.rate` raises."""
        served = self._recommender()
        self._limits.check_history(sent)
        version, user, answerer = self._known(sent, viewed=False)
        assert answerer.recommender is not None
        assert user.state is not None
        rated = answerer.recommender.ratings is not None
        found = explain(answerer.recommender, user.state, sent.item_id, sent.by, sent.against)
        return Explained(
            user_id=sent.user_id,
            version=version,
            text=drafted(sentences.because_of(found, rated)).text,
            source="template",
            explanation=found,
            model=served.identity,
        )

    def _answerer(self, items: Sequence[Item] = ()) -> Answerer:
        """Return the cached answerer, renewed when items were added; one for this request if ``items`` are new."""
        model = self._users.model
        served = self._users.recommender
        recommender = None if served is None else served.recommender
        if items and served is not None:
            return self._new(model, served.knowing(items))
        with acquired(self._matching):
            made = self._made
            if made is None or made[0] is not recommender or made[1] is not (model and model.model):
                made = recommender, model and model.model, self._new(model, recommender)
                self._made = made
        return made[2]

    def _new(self, model: ServedModel | None, recommender: Recommender | None) -> Answerer:
        return answerer_of(None if model is None else model.model, recommender, writer=self._writer)

    def _known(self, sent: SentUser, viewed: bool) -> tuple[int | None, KnownTaste, Answerer]:
        """Load a stored user's state and view, or compute those of a given history; also returns the answerer."""
        model, served = self._users.model, self._users.recommender
        if sent.user_id is None:
            history, items = self._users.given(sent.history or [])
            answerer = self._answerer(items)
            state = None if answerer.recommender is None else answerer.recommender.state(history)
            view = None
            if model is not None and model.model.has_view and viewed:
                known, passes = model.prompts_of([history], items)
                view = views_of_prompt(known, next(passes))[0]
            return None, KnownTaste("", state, view), answerer
        version, state = None, None
        if served is not None:
            kept, _ = self._users.encoded_by(served, sent.user_id)
            assert kept.state is not None
            version, state = kept.version, unpack_state(kept.state)
            if not served.knows(state):
                self._users.refresh_items()
        view = self._stored_view(sent.user_id) if viewed else None
        return version, KnownTaste(sent.user_id, state, view), self._answerer()

    def _stored_view(self, user_id: str) -> TasteView | None:
        model = self._users.model
        if model is None or not model.model.has_view:
            return None
        kept, _ = self._users.encoded(user_id)
        if kept.state is None:
            return None
        return views_of_prompt(model.model, model.model.load_state(kept.state).user_prompt())[0]

    def _recommender(self) -> ServedRecommender:
        if self._users.recommender is None:
            raise QuestionError(
                "explanations need the scores of a recommender, and this server has none; start  palate serve RUN "
                "--recommender RUN2  with RUN2 of recipes/recommend.yaml"
            )
        return self._users.recommender


def _in_trained_words(model: PersonalizedModel, asked: AskedQuestion) -> Question:
    """Rephrase a question in a wording that the model was trained on, unless it is in one already."""
    exact = model.question(asked.text)
    settings = model.settings
    return (
        exact
        if exact.kind == asked.kind
        else in_trained_words(asked, settings.categories, settings.category_field)
    )
