"""Response schemas of the API, apart from those of the OpenAI-compatible routes."""

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
    """An answer with its evidence; ``version`` is that of the stored user's history."""

    user_id: str | None
    version: int | None
    instruction: str
    text: str
    source: AnswerSource = Field(
        "model",
        description="Origin of the text: the language model that reads the user, a template filled with facts, or "
        "another language model that words these facts anew (written)",
    )
    kind: str | None = Field(
        None, description="Kind of the question; null for the instruction that the model was trained with"
    )
    wording: str | None = Field(None, description="The known wording that is most similar to the question")
    match: float | None = Field(
        None, description="Probability that the question is of a kind that fits what it names"
    )
    entities: tuple[NamedEntity, ...] = Field((), description="Items and categories that the question names")
    by: str | None = Field(
        None, description="Score that decides the answer: ratings, next item, view or history"
    )
    personal: bool = Field(
        True, description="False for a user without events, who gets the population's answer"
    )
    chances: tuple[AnswerChance, ...] = ()
    reasons: tuple[Explanation, ...] = ()


class Explained(BaseModel):
    """Explanation of an item's score by ablation of the history; ``model`` is the recommender's identity."""

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
    """Number of items in the request, all of which are in the catalogue now."""

    items: int


class DeletedItems(BaseModel):
    """Numbers of deleted items, and of all users' events about them."""

    items: int
    events: int


class EngineState(BaseModel):
    """State of the inference engine at the last check."""

    url: str
    model: str | None = Field(description="Name of the model on the engine; null until it was reached")
    checked: bool = Field(description="Whether it was reached and serves the run's weights")


class State(BaseModel):
    """Liveness or readiness of the server."""

    status: str
    engine: EngineState | None = Field(
        None, description="Absent if the server generates with its own backbone"
    )


class Drift(BaseModel):
    """Comparison of the answers of two models on a panel of stored users."""

    users: int = Field(description="Number of users in the panel")
    changed: float = Field(
        description="Fraction of changed answers; of changed recommendations if there is no language model"
    )
    f1_old: float | None = Field(
        description="F1 of the old model's answers against the label rule on the stored histories; null without the "
        "run's dataset"
    )
    f1_new: float | None
    alarms: list[str] = Field(description="Limits that are exceeded")


class UpgradeState(BaseModel):
    """Progress of an upgrade from one model to another."""

    serving: Literal["old", "new"] = Field(description="The model that answers")
    phase: Literal["preparing", "comparing", "decided", "failed"]
    reason: str = Field(description="Why this model answers, or why the preparation failed")
    old: str = Field(description="Identity of the model that was served before")
    new: str
    users: int
    prepared: int = Field(description="Number of users whose prompts and states exist for the new model")
    drift: Drift | None = Field(description="Null until the models have been compared")


class RecommenderFacts(BaseModel):
    """Training data and abilities of a recommender."""

    model: str
    data: str
    items: int
    categories: list[str]
    ratings: bool = Field(description="Whether ratings can be predicted")
    years: bool = Field(description="Whether lists can be limited to newer items")
    reads: str = Field(description="How much of a history it reads")
    missing: list[str] = Field(description="What the data lacks, with the requests that fail because of it")


class AskableQuestion(BaseModel):
    """A kind of question that the server can answer, with an example wording."""

    kind: str
    wording: str = Field(description="{item} and {category} in it are placeholders")
    items: int = Field(description="Number of items to send with the question")
    categories: int = Field(description="Number of categories to send with the question")


class ModelFacts(BaseModel):
    """Model card, identity and limits of the server."""

    model: str = Field(
        description="Identity of the language model, or of the recommender if there is no language model"
    )
    card: str | None = Field(description="Model card in Markdown; null without a language model")
    instruction: str | None = Field(
        description="Instruction that the model was trained with; null without a language model"
    )
    recommender: RecommenderFacts | None = Field(description="Null without a recommender")
    reads: str = Field(description="How much of a history the model reads")
    ratings: list[float] = Field(description="Rating scale")
    unrated: float | None = Field(
        description="Value of an event without a rating; null if a rating or an event type is required"
    )
    event_types: dict[str, float] = Field(description="Weight of each event type, used instead of a rating")
    items: int
    categories: list[str]
    category_field: str = Field(description="Noun for a category, in the singular")
    item_noun: str = Field(description="Noun for an item, in the singular")
    questions: list[AskableQuestion] = Field(description="Kinds of free-text questions")
    limits: dict[str, Any]


class UserIds(BaseModel):
    """User ids, sorted."""

    users: list[str]


class Taken(BaseModel):
    """Numbers of new events and of events that were already stored under their ids."""

    user_id: str
    version: int = Field(description="Version of the user's history after the request")
    new: int
    known: int


class TakenAll(BaseModel):
    """Results of adding events, one per user."""

    users: list[Taken]


class HistoryEvent(BaseModel):
    """An event of a stored history, with title and categories of the item if known."""

    event_id: str
    item_id: str
    rating: float
    timestamp: int = Field(description="Seconds since 1970")
    title: str | None = None
    categories: list[str] = []
    text: str | None = Field(None, description="The user's review or note")


class HistoryPage(BaseModel):
    """Part of a user's history, oldest first."""

    user_id: str
    version: int
    events: list[HistoryEvent]

    @classmethod
    def of(cls, found: StoredHistory, items: Sequence[Item | None]) -> HistoryPage:
        """Create the page from a stored history and its items, None for unknown ones."""
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
    """Number of deleted events of a user, whose derived data is deleted too."""

    user_id: str
    events: int


class DeletedUser(Deleted):
    """Number of deleted events of a user, and the exports from which the user was removed."""

    exports: list[str] = Field(description="Export folders from which the user's files were removed")
    left: list[str] = Field(
        description="Export folders that could not be written: repeat the request when they can"
    )


class DeletedEvents(Deleted):
    """Number of deleted events, and the version of the remaining history."""

    version: int


class NotedDeletion(BaseModel):
    """An entry of the log of deletions."""

    number: int
    deleted_at: int = Field(description="Seconds since 1970")
    kind: DeletionKind = Field(
        description="What was deleted: a user, events of a user, added items, or events above an age"
    )
    who: str | None = Field(
        description="Digest of the user's id; null for kinds that may concern several users"
    )
    users: int = Field(description="Number of users of whom everything was deleted")
    events: int
    api_key: str | None = Field(description="Name of the request's API key; null without one")


class DeletionLog(BaseModel):
    """Entries of the deletion log, oldest first."""

    deletions: list[NotedDeletion]


class CategoryView(BaseModel):
    """Probabilities of a category from the user encoder, and the label rule's result."""

    name: str
    liked: float | None = Field(
        description="Probability from the user encoder; null if the encoder predicts none"
    )
    disliked: float | None
    count: int | None = Field(
        description="Number of its items in the history; null if the server lacks the dataset"
    )
    score: float | None = Field(
        description="Mean rating of these items; for data without ratings their share, relative to the usual share"
    )
    rule: Literal["liked", "disliked"] | None


class View(BaseModel):
    """A user's likes and dislikes by category."""

    user_id: str | None
    version: int | None
    read: int = Field(description="Number of events that were read, the most recent ones")
    like_above: float | None = Field(description="Score above which the label rule says liked")
    dislike_below: float | None = Field(description="Score below which the label rule says disliked")
    categories: list[CategoryView]


class TasteEstimate(BaseModel):
    """An estimate with its 90% interval, and its value for a user without events."""

    value: float
    low: float
    high: float
    everyone: float = Field(description="Value for a user without events")


class TasteOfCategory(BaseModel):
    """Taste for a category: probabilities that it is liked and disliked, or the expected mean rating."""

    name: str
    count: int = Field(description="Number of its events in the history")
    liked: TasteEstimate | None
    disliked: TasteEstimate | None
    rating: TasteEstimate | None


class TastePoint(BaseModel):
    """Taste from the first ``events`` events of the history."""

    events: int
    timestamp: int = Field(description="Time of the last of these events, in seconds since 1970")
    values: list[float] = Field(
        description="Probability of a like, or mean rating, of each category, in their order"
    )


class Taste(BaseModel):
    """A user's taste by category, with its uncertainty and its course over the history.

    Intervals of probabilities are estimated from random halves of the history: they show how much the probability
    depends on which events were seen. Intervals of mean ratings are the rating model's.
    """

    user_id: str | None = None
    version: int | None = None
    by: Literal["view", "ratings"] = Field(
        description="Source: probabilities of the user encoder, or the recommender's ratings"
    )
    read: int = Field(description="Number of events that were read, the most recent ones")
    least: float = Field(description="Smallest possible value")
    most: float = Field(description="Largest possible value")
    like_above: float | None = Field(
        description="Mean rating above which a category is liked; null for probabilities"
    )
    categories: list[TasteOfCategory]
    course: list[TastePoint] = Field(description="Taste over time, the last point after the whole history")
    model: str


class KnownItem(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str = Field(description="Title, followed by the year if known")
    categories: list[str]

    @classmethod
    def of(cls, item: Item) -> KnownItem:
        """Convert an item."""
        return cls(item_id=item.item_id, title=titled(item), categories=list(item.categories))


class KnownItemList(BaseModel):
    """Items of the catalogue."""

    items: list[KnownItem]


class FirstEvent(KnownItem):
    """An event of a made-up history."""

    rating: float


class FirstLook(BaseModel):
    """An example user: a stored one, or if there is none a made-up history of items of the catalogue."""

    user_id: str | None
    history: list[FirstEvent]


class _ForUser(BaseModel):
    """Base class of results for one user; ``version`` is that of the stored user's history."""

    user_id: str | None
    version: int | None
    personal: bool = Field(description="False for a user without events, who gets the population's answer")


class UserRecommendations(_ForUser):
    """A user's recommended items, best first; ``share`` is an item's probability among all allowed items."""

    items: tuple[RecommendedItem, ...]


class AllRecommendations(BaseModel):
    """Recommendations in the order of the users, and the identity of the recommender."""

    recommendations: list[UserRecommendations]
    model: str


class UserRatings(_ForUser):
    """Expected ratings in the order of the items, with standard deviations and the probability of a like."""

    items: tuple[RatedItem, ...]


class AllRatings(BaseModel):
    """Ratings in the order of the users, and the identity of the recommender."""

    ratings: list[UserRatings]
    model: str


class ChosenForUser(_ForUser):
    """The item that a user would choose, with the probability of each item."""

    item_id: str
    probabilities: dict[str, float]
    by: Literal["ratings", "next item"] = Field(description="Score that decides")


class AllChoices(BaseModel):
    """Choices in the order of the users, and the identity of the recommender."""

    choices: list[ChosenForUser]
    model: str


class Influence(BaseModel):
    """An item of the history with its influence on the answer."""

    item_id: str
    title: str | None
    rating: float
    influence: float = Field(description="Decrease of the answer's log-probability without the item, in nats")


class Attributed(BaseModel):
    """An answer with its log-probability, and the influence of each item of the history, oldest first."""

    user_id: str | None
    version: int | None
    instruction: str
    text: str
    log_probability: float
    by: Literal["answer", "chances"] = Field(
        description="What has the log-probability: the answer's tokens, or the categories that it names, by the user "
        "encoder's chances, where that decides on them"
    )
    items: list[Influence]
    model: str
