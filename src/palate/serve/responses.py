"""Response schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from palate.answers.answerer import AnswerChance, AnswerSource
from palate.answers.reasons import Explanation
from palate.recommend.recommender import RatedItem, RecommendedItem
from palate.schema import Item, titled
from palate.serve.store.deletions import DeletionKind
from palate.serve.store.store import StoredHistory
from palate.tasks.naming import NamedEntity


class GivenAnswer(BaseModel):
    """An answer, with the version of the history for a stored user, and what it rests on."""

    user_id: str | None
    version: int | None
    instruction: str
    text: str
    source: AnswerSource = Field(
        "model", description="Who wrote the text: the language model, or a template that is filled with facts"
    )
    kind: str | None = Field(
        None, description="Of the question; null for what the model was trained to answer"
    )
    wording: str | None = Field(None, description="The known wording that the question is nearest to")
    match: float | None = Field(
        None, description="Probability that the question is of a kind that fits what it names"
    )
    entities: tuple[NamedEntity, ...] = Field((), description="What the question names")
    by: str | None = Field(None, description="What decides: ratings, next item, view or history")
    personal: bool = Field(
        True, description="False for a user without events, who gets the population's answer"
    )
    chances: tuple[AnswerChance, ...] = ()
    reasons: tuple[Explanation, ...] = ()


class Explained(BaseModel):
    """Why an item has its score: a sentence, what of the history moves it most, and the recommender's identity."""

    user_id: str | None
    version: int | None
    text: str
    source: AnswerSource
    explanation: Explanation
    model: str


class Answers(BaseModel):
    """Answers in the order of the questions, and the identity of the model."""

    answers: list[GivenAnswer]
    model: str


class AddedItems(BaseModel):
    """Number of items in the request, all of which are known now."""

    items: int


class DeletedItems(BaseModel):
    """Numbers of deleted items, and of all users' events about them."""

    items: int
    events: int


class EngineState(BaseModel):
    """The engine that generates, as it was found last."""

    url: str
    model: str | None = Field(description="As the engine calls it; null before it was reached")
    checked: bool = Field(description="Whether it was reached, and serves the weights of the run")


class State(BaseModel):
    """Liveness or readiness of the server."""

    status: str
    engine: EngineState | None = Field(None, description="Left out where the server generates itself")


class Drift(BaseModel):
    """How answers about the panel change with the model."""

    users: int = Field(description="Users who were asked about, with both models")
    changed: float = Field(
        description="Fraction of the answers that are others; of lists where there are no answers"
    )
    f1_old: float | None = Field(
        description="F1 of the answers against the label rule on the stored histories; null without the run's data"
    )
    f1_new: float | None
    alarms: list[str] = Field(description="What is beyond its limit; empty if nothing is")


class UpgradeState(BaseModel):
    """A model that takes another's place: who answers, how far the other is, and how the answers change."""

    serving: Literal["old", "new"]
    phase: Literal["preparing", "comparing", "decided", "failed"]
    reason: str = Field(description="Why that one answers; or why the preparation failed")
    old: str = Field(description="Identity of the model that was served before")
    new: str
    users: int
    prepared: int = Field(description="Users whose prompts and states are made for the new model")
    drift: Drift | None = Field(description="Null until they have been compared")


class RecommenderFacts(BaseModel):
    """What a recommender was made of, and what it can be asked."""

    model: str
    data: str
    items: int
    categories: list[str]
    ratings: bool = Field(description="Whether ratings can be predicted")
    years: bool = Field(description="Whether lists can be limited to newer items")
    reads: str
    missing: list[str] = Field(description="What the data lacks, and what cannot be answered therefore")


class AskableQuestion(BaseModel):
    """A kind of question that can be asked here, with a wording of it."""

    kind: str
    wording: str = Field(
        description="{item} and {category} in it stand for what is given beside the question"
    )
    items: int = Field(description="Number of items to give beside it")
    categories: int


class ModelFacts(BaseModel):
    """Model card, identity and limits of the server."""

    model: str = Field(description="Identity of the language model; of the recommender where that is alone")
    card: str | None = Field(description="Null where there is no language model")
    instruction: str | None = Field(description="Null where there is no language model")
    recommender: RecommenderFacts | None = Field(description="Null where nothing is recommended")
    reads: str
    ratings: list[float]
    unrated: float | None
    event_types: dict[str, float]
    items: int
    categories: list[str]
    category_field: str = Field(description="What a category is called, in the singular")
    item_noun: str = Field(description="What an item is called, in the singular")
    questions: list[AskableQuestion] = Field(description="Kinds of questions in free words that can be asked")
    limits: dict[str, Any]


class UserIds(BaseModel):
    """List user ids."""

    users: list[str]


class Taken(BaseModel):
    """Numbers of new events and of events that were already stored under their ids."""

    user_id: str
    version: int
    new: int
    known: int


class TakenAll(BaseModel):
    """Results of adding events, by user."""

    users: list[Taken]


class HistoryEvent(BaseModel):
    """An event of a stored history, with its title if known."""

    event_id: str
    item_id: str
    rating: float
    timestamp: int
    title: str | None = None
    categories: list[str] = []
    text: str | None = None
    """What the user wrote of it."""


class HistoryPage(BaseModel):
    """Part of a user's history, oldest first."""

    user_id: str
    version: int
    events: list[HistoryEvent]

    @classmethod
    def of(cls, found: StoredHistory, items: Sequence[Item | None]) -> HistoryPage:
        """Create the page from a stored history, with what is known of its items."""
        history = found.history
        texts = [text or None for text in history.texts] or [None] * len(history)
        columns = zip(
            history.event_ids,
            history.item_ids,
            history.ratings,
            history.timestamps,
            (None if item is None else titled(item) for item in items),
            ([] if item is None else list(item.categories) for item in items),
            texts,
            strict=True,
        )
        names = HistoryEvent.model_fields
        events = [HistoryEvent(**dict(zip(names, row, strict=True))) for row in columns]
        return cls(user_id=history.user_id, version=found.version, events=events)


class Deleted(BaseModel):
    """Number of deleted events of a user, with their derived data."""

    user_id: str
    events: int


class DeletedUser(Deleted):
    """Number of deleted events of a user, and the exports that held them."""

    exports: list[str] = Field(description="Folders of exports that the user's files were removed from")
    left: list[str] = Field(description="Folders that could not be written: send it again when they can")


class DeletedEvents(Deleted):
    """Number of deleted events, and the version of the remaining history."""

    version: int


class NotedDeletion(BaseModel):
    """An entry of the log of deletions."""

    number: int
    deleted_at: int = Field(description="Seconds since 1970")
    kind: DeletionKind = Field(
        description="Whether a user, events of one, added items, or events above an age"
    )
    who: str | None = Field(description="Digest of the user's id; null where several may be concerned")
    users: int = Field(description="Users who were deleted whole")
    events: int
    api_key: str | None = Field(description="Name of the API key that asked for it; null without one")


class DeletionLog(BaseModel):
    """Logged deletions, oldest first."""

    deletions: list[NotedDeletion]


class CategoryView(BaseModel):
    """One category: the user encoder's probabilities and the label rule's result."""

    name: str
    liked: float | None = Field(description="Chance; null where the user encoder has no view of its own")
    disliked: float | None
    count: int | None = Field(
        description="Items of it in the history; null where the server lacks the dataset"
    )
    score: float | None = Field(
        description="Their mean rating, or without ratings a multiple of the usual share"
    )
    rule: Literal["liked", "disliked"] | None


class View(BaseModel):
    """A user's likes by category, from the most recent ``read`` events."""

    user_id: str | None
    version: int | None
    read: int
    like_above: float | None
    dislike_below: float | None
    categories: list[CategoryView]


class TasteEstimate(BaseModel):
    """A value with its 90% interval, and what it is for someone of whom nothing is known."""

    value: float
    low: float
    high: float
    everyone: float


class TasteOfCategory(BaseModel):
    """What a user makes of a category: chances that it is liked and disliked, or the mean rating to expect."""

    name: str
    count: int = Field(description="Events of it in the history")
    liked: TasteEstimate | None
    disliked: TasteEstimate | None
    rating: TasteEstimate | None


class TastePoint(BaseModel):
    """The taste after the first ``events`` of the history."""

    events: int
    timestamp: int = Field(description="Of the last of them")
    values: list[float] = Field(
        description="Chances of a like, or mean ratings, in the order of the categories"
    )


class Taste(BaseModel):
    """A user's taste by category, with how sure it is and how it came about.

    Intervals of chances come from random halves of the history: how far the chance moves with which events were seen.
    Those of mean ratings are the model's own.
    """

    user_id: str | None = None
    version: int | None = None
    by: Literal["view", "ratings"]
    read: int = Field(description="Number of events, the most recent ones")
    least: float = Field(description="Smallest possible value")
    most: float
    like_above: float | None = Field(
        description="Mean rating above which a category is liked; null for chances"
    )
    categories: list[TasteOfCategory]
    course: list[TastePoint] = Field(description="From the beginning of the history to all of it")
    model: str


class KnownItem(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str = Field(description="With the year, if there is one")
    categories: list[str]

    @classmethod
    def of(cls, item: Item) -> KnownItem:
        """Describe an item."""
        return cls(item_id=item.item_id, title=titled(item), categories=list(item.categories))


class KnownItemList(BaseModel):
    """Items of the catalogue."""

    items: list[KnownItem]


class FirstEvent(KnownItem):
    """An event of a made-up history."""

    rating: float


class FirstLook(BaseModel):
    """Whom to look at first: a stored user, or where there is none a made-up history of the catalogue's items."""

    user_id: str | None
    history: list[FirstEvent]


class _ForUser(BaseModel):
    """Whom an answer is for, with the version of the history for a stored user."""

    user_id: str | None
    version: int | None
    personal: bool = Field(description="False for a user without events, who gets the population's answer")


class UserRecommendations(_ForUser):
    """A user's list, best first; a share is that of the odds among all items that were allowed."""

    items: tuple[RecommendedItem, ...]


class AllRecommendations(BaseModel):
    """Lists in the order of the users, and the identity of the recommender."""

    recommendations: list[UserRecommendations]
    model: str


class UserRatings(_ForUser):
    """Expected ratings in the order of the items, with their standard deviations and the chance of a like."""

    items: tuple[RatedItem, ...]


class AllRatings(BaseModel):
    """Ratings in the order of the users, and the identity of the recommender."""

    ratings: list[UserRatings]
    model: str


class ChosenForUser(_ForUser):
    """The item that a user would choose, the probability of each, and what decides."""

    item_id: str
    probabilities: dict[str, float]
    by: Literal["ratings", "next item"]


class AllChoices(BaseModel):
    """Choices in the order of the users, and the identity of the recommender."""

    choices: list[ChosenForUser]
    model: str


class Influence(BaseModel):
    """An item of the history, and the decrease of the answer's log-probability without it."""

    item_id: str
    title: str | None
    rating: float
    influence: float


class Attributed(BaseModel):
    """An answer with its log-probability, and the influences of the items, oldest first."""

    user_id: str | None
    version: int | None
    instruction: str
    text: str
    log_probability: float
    items: list[Influence]
    model: str
