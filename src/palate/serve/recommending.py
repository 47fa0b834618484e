"""The served recommender: cached states of stored users, and recommendations, ratings and choices in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from palate.data.event_types import Unrated
from palate.errors import ConflictError, DataError
from palate.items.table import off_scale
from palate.recommend.files import load_recommender
from palate.recommend.recommender import KnownUser, Recommender
from palate.recommend.state import TasteState
from palate.recommend.state_bytes import STATE_FIELDS, pack_state, unpack_state
from palate.runs.run import load_run
from palate.schema import Item
from palate.serve import metrics
from palate.serve.encoding import ServingEncoder
from palate.serve.engine import Users, digest_of_files
from palate.serve.responses import (
    AllChoices,
    AllRatings,
    AllRecommendations,
    ChosenForUser,
    RecommenderFacts,
    UserRatings,
    UserRecommendations,
)
from palate.serve.schemas import SentCandidates, SentUser, SentUsers, SentWish
from palate.serve.settings import Limits
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import Changes, StoredHistory
from palate.serve.waiting import Turns

KEPT = f"palate-taste-2 {' '.join(STATE_FIELDS)}".encode()
"""Version of the format of cached states; changing it invalidates older ones."""
AT_ONCE = 4
"""Size of the thread pool, small as requests share the CPU and each needs memory for scores of all items."""
T = TypeVar("T")


class Known(NamedTuple):
    """A recommender over all items, and the store's count of deletions of items when it was created."""

    recommender: Recommender
    removals: int


class ServedRecommender:
    """A recommender in the server.

    Added items are scored by their texts and categories. They are always added in the order of their numbers in the
    store, so that an item has the same index in the states of all workers.
    """

    def __init__(self, run: Path) -> None:
        self._trained = load_recommender(run)
        self.now = Known(self._trained, 0)
        reading = self._trained.content.reading
        self._encoder = None if reading is None else ServingEncoder.of(reading.encoder)
        self.identity = f"sha256:{digest_of_files(load_run(run).model, KEPT).hexdigest()}"
        self.reads = None
        self._titles = self._own = _titles_of(self._trained)
        self._listed: tuple[Known | None, list[Item]] = None, []

    @property
    def recommender(self) -> Recommender:
        """The recommender over all items, with added ones."""
        return self.now.recommender

    @cached_property
    def scale(self) -> list[float]:
        """Rating scale, ascending."""
        return list(self.recommender.facts.rating_values)

    @property
    def unrated(self) -> Unrated:
        """Value of an event without a rating, or weights of event types; None if a rating is required."""
        return self.recommender.facts.unrated

    @property
    def repeats(self) -> bool:
        """Whether all events of an item are read, instead of the last one only."""
        return self.recommender.facts.repeats

    @property
    def facts(self) -> RecommenderFacts:
        """Description of the recommender for clients."""
        facts, items = self.recommender.facts, self.recommender.items
        return RecommenderFacts(
            model=self.identity,
            data=facts.name,
            items=len(items),
            categories=list(facts.categories),
            ratings=self.recommender.ratings is not None,
            years=items["year"].null_count() < len(items),
            reads=f"the newest {facts.history:,} events, and which items were seen in all of them",
            missing=list(facts.missing),
        )

    def unknown(self, item_ids: Iterable[str]) -> list[str]:
        """Return the item ids that the recommender does not know."""
        known = self._titles
        return [item_id for item_id in dict.fromkeys(item_ids) if item_id not in known]

    @contextmanager
    def adding(self, items: Sequence[Item]) -> Iterator[None]:
        """Check that known items have the same titles; they are added later, in the order of the store."""
        known = self._titles
        for item in items:
            if known.get(item.item_id, item.title) != item.title:
                raise DataError(
                    f"item {item.item_id!r} is already known with another title; give it a new id"
                )
        yield

    def add_items(self, items: Sequence[Item]) -> None:
        """Add new items; a running request keeps the recommender that it started with."""
        if items:
            self._know(self.recommender.with_items(items, self._encoder), self.now.removals)

    @property
    def own_items(self) -> Sequence[str]:
        """Ids of the items that the recommender was trained with."""
        return self._trained.item_ids

    def trained(self, item_ids: Iterable[str]) -> list[str]:
        """Return those of the item ids that the recommender was trained with."""
        return [item_id for item_id in item_ids if item_id in self._own]

    def renew(self, items: Sequence[Item], removals: int) -> None:
        """Replace all added items by the given ones, whose indices may change."""
        new = [item for item in items if item.item_id not in self._own]
        with nullcontext() if self._encoder is None else self._encoder.forgetting():
            self._know(self._trained.with_items(new, self._encoder), removals)

    def knowing(self, items: Sequence[Item]) -> Recommender:
        """Return a recommender that also knows these items, without changing this one.

        Raises:
            DataError: An item is known with another title.
        """
        with self.adding(items):
            new = set(self.unknown(item.item_id for item in items))
            return self.recommender.with_items([item for item in items if item.item_id in new], self._encoder)

    def off_scale(self, ratings: Iterable[float]) -> list[float]:
        """Return the ratings that are not on the scale."""
        return off_scale(np.asarray(self.scale, dtype=np.float32), ratings)

    def items(self, item_ids: Sequence[str]) -> list[Item | None]:
        """Look up items; None for unknown ones."""
        recommender = self.recommender
        known = [item_id for item_id in item_ids if item_id in self._titles]
        found = dict(zip(known, _items_at(recommender, recommender.index_of(known)), strict=True))
        return [found.get(item_id) for item_id in item_ids]

    def all_items(self) -> list[Item]:
        """Return all items, most popular first."""
        now, listed = self._listed
        if now is not self.now:
            now, recommender = self.now, self.recommender
            listed = _items_at(recommender, np.argsort(-recommender.scorer.popularity, kind="stable"))
            self._listed = now, listed
        return listed

    def encode(self, found: StoredHistory) -> Encoded:
        """Compute the state of a stored history."""
        state = self.recommender.state(found.history)
        return Encoded(found.version, b"", pack_state(state))

    def advance(self, kept: Encoded, changes: Changes) -> Encoded | None:
        """Add newer events to a state, at a cost independent of the history's length.

        Returns:
            The new state; None if the whole history has to be read, as an event is older than the state's newest or
            supersedes an earlier one.
        """
        assert kept.state is not None
        state, later = unpack_state(kept.state), changes.added
        newest = state.timestamp.max(initial=0)
        if len(changes.removed) or any(one < newest for one in later.timestamps):
            return None
        return Encoded(changes.version, b"", pack_state(self.recommender.added(state, later)))

    def knows(self, state: TasteState) -> bool:
        """Whether all items of a state are known; another worker may have written it with newer items."""
        return max(state.seen, default=-1) < len(self.recommender.items)

    def _know(self, recommender: Recommender, removals: int) -> None:
        self._titles, self.now = _titles_of(recommender), Known(recommender, removals)


def _items_at(recommender: Recommender, index: npt.NDArray[np.integer[Any]]) -> list[Item]:
    columns = ("item_id", "title", "categories", "description", "year")
    return [
        Item(item_id, title, tuple(categories or ()), description, year)
        for item_id, title, categories, description, year in recommender.items.select(columns)[
            index.tolist()
        ].iter_rows()
    ]


def _titles_of(recommender: Recommender) -> dict[str, str]:
    items = recommender.items
    return dict(zip(items["item_id"], items["title"], strict=True))


class Recommending:
    """Recommendations, ratings and choices for stored users and given histories.

    All methods raise :class:`UnknownUserError`, :class:`OverloadedError` if too many requests are waiting, and
    :class:`DataError` if a limit is exceeded or the recommender cannot answer.
    """

    def __init__(self, served: ServedRecommender, users: Users, limits: Limits) -> None:
        self._served, self._users, self._limits = served, users, limits
        self._turns = Turns(AT_ONCE, limits.waiting)
        # encoding new items is slow, and each such request needs a copy of the catalogue
        self._turns_with_items = Turns(1, limits.waiting)

    async def recommend(self, sent: SentWish) -> AllRecommendations:
        """Recommend items of the catalogue to each user."""
        self._limits.check_count("k", sent.k, self._limits.listed, "ask for fewer")
        self._check(sent)
        ask = partial(
            Recommender.recommend,
            k=sent.k,
            seen=sent.seen,
            categories=sent.categories,
            since=sent.since,
            diversity=sent.diversity,
        )
        rows = [
            UserRecommendations(**who, personal=one.personal, items=one.items)
            for who, one in await self._asked(sent, ask)
        ]
        return AllRecommendations(recommendations=rows, model=self._served.identity)

    async def rate(self, sent: SentCandidates) -> AllRatings:
        """Predict each user's ratings of the items."""
        self._check_candidates(sent)
        ask = partial(Recommender.rate, item_ids=sent.all_ids)
        rows = [
            UserRatings(**who, personal=one.personal, items=one.items)
            for who, one in await self._asked(sent, ask, sent)
        ]
        return AllRatings(ratings=rows, model=self._served.identity)

    async def choose(self, sent: SentCandidates) -> AllChoices:
        """Predict which of the items each user would choose."""
        self._check_candidates(sent)
        ask = partial(Recommender.choose, item_ids=sent.all_ids)
        rows = [
            ChosenForUser(
                **who,
                personal=one.personal,
                item_id=one.item_id,
                probabilities=dict(one.probabilities),
                by=one.by,
            )
            for who, one in await self._asked(sent, ask, sent)
        ]
        return AllChoices(choices=rows, model=self._served.identity)

    def _check(self, sent: SentUsers) -> None:
        self._limits.check_count("users", len(sent.users), self._limits.questions)
        for number, user in enumerate(sent.users):
            self._limits.check_history(user, f"users.{number}.")

    def _check_candidates(self, sent: SentCandidates) -> None:
        self._limits.check_count("items", len(sent.items), self._limits.new_items)
        self._limits.check_count("item_ids and items", len(sent.all_ids), self._limits.listed)
        self._check(sent)

    async def _asked(
        self,
        sent: SentUsers,
        ask: Callable[[Recommender, Sequence[KnownUser]], Sequence[T]],
        candidates: SentCandidates | None = None,
    ) -> list[tuple[dict[str, str | int | None], T]]:
        """Run ``ask`` in a thread; returns each user's id and version, None if not stored, with the result."""
        described = [item.item() for item in candidates.items] if candidates is not None else []

        def work() -> list[tuple[dict[str, str | int | None], T]]:
            while True:
                removals = self._served.now.removals
                known = [self._known(user) for user in sent.users]
                items = _each_once([*described, *(item for _, _, new in known for item in new)])
                if candidates is not None:
                    self._users.check(candidates.item_ids, [], items)
                recommender = self._served.knowing(items)
                if (
                    self._served.now.removals == removals
                ):  # else items were deleted, and indices in states changed
                    break
            answers = ask(recommender, [user for _, user, _ in known])
            return [(who, answer) for (who, _, _), answer in zip(known, answers, strict=True)]

        if described or any(user.names_new_items for user in sent.users):
            return await self._turns_with_items.take(work)
        return await self._turns.take(work)

    def _known(self, sent: SentUser) -> tuple[dict[str, str | int | None], KnownUser, list[Item]]:
        """Return a user's id and version, a stored user's state or the given history, and the history's new items."""
        if sent.user_id is not None:
            kept, source = self._users.encoded_by(self._served, sent.user_id)
            metrics.states.labels(source).inc()
            assert kept.state is not None
            state = unpack_state(kept.state)
            if not self._served.knows(state):
                self._users.refresh_items()
            return {"user_id": sent.user_id, "version": kept.version}, state, []
        history, items = self._users.given(sent.history or [])
        return {"user_id": None, "version": None}, history, items


def _each_once(items: Sequence[Item]) -> list[Item]:
    """Remove duplicate items; raises :class:`ConflictError` if their texts differ."""
    found: dict[str, Item] = {}
    for item in items:
        if found.setdefault(item.item_id, item) != item:
            raise ConflictError(
                f"item {item.item_id!r} is given twice with different texts; give each its own id"
            )
    return list(found.values())
