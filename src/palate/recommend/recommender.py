"""The recommender: recommends, rates and chooses items of the catalogue for histories or states."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import polars as pl

from palate.data.assemble import items_table
from palate.errors import DataError, PalateError, did_you_mean, rating_off_scale
from palate.items.table import index_of, off_scale
from palate.recommend.content import item_features
from palate.recommend.index import ItemIndex
from palate.recommend.parts import RecommenderParts
from palate.recommend.ratings import RatingModel, RatingState
from palate.recommend.selection import diverse_items
from palate.recommend.state import TasteState, newest_windows
from palate.schema import Bools, Floats, History, Indices, Ints, Item

if TYPE_CHECKING:
    from palate.items.encoder import ItemEncoder

KnownUser: TypeAlias = "History | TasteState"
"""A user, given as a history or as a state from :meth:`Recommender.state`."""


@dataclass(frozen=True)
class RecommendedItem:
    """A recommended item with its score, and its softmax probability among all allowed items."""

    item_id: str
    title: str
    score: float
    share: float


@dataclass(frozen=True)
class Recommendations:
    """One user's recommendations, best first; ``personal`` is False if the history is empty (most popular items)."""

    user_id: str
    personal: bool
    items: tuple[RecommendedItem, ...]


@dataclass(frozen=True)
class RatedItem:
    """Expected rating of an item, its standard deviation, and the probability that it is a like."""

    item_id: str
    title: str
    rating: float
    sd: float
    chance: float


@dataclass(frozen=True)
class Ratings:
    """One user's expected ratings, in the requested order."""

    user_id: str
    personal: bool
    items: tuple[RatedItem, ...]


@dataclass(frozen=True)
class ItemChoice:
    """The item that a user would most likely choose, and the probability of each."""

    user_id: str
    personal: bool
    item_id: str
    probabilities: Mapping[str, float]
    by: Literal["ratings", "next item"]
    """Basis of the choice: expected ratings, or next-item scores where the data has no ratings."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """Constraints of a recommendation list."""

    k: int
    seen: bool
    allowed: Bools | None
    diversity: float


@dataclass(frozen=True, eq=False)
class Recommender(RecommenderParts):
    """Recommends, rates and chooses among the items that it was trained on.

    Example:
        >>> recommender = palate.load_recommender("runs/recommender")
        >>> history = palate.History("me", ["3", "8"], [5.0, 2.0], [1704067200, 1704153600])
        >>> [len(one.items) for one in recommender.recommend([history], k=3)]
        [3]
    """

    index: ItemIndex | None = None
    """Retrieves candidates in large catalogues; without it all items are scored."""

    @cached_property
    def item_ids(self) -> list[str]:
        """Item ids by index, [I]."""
        return self.items["item_id"].to_list()

    def titles(self, rows: Indices | Ints) -> list[str]:
        """Return titles of items by index, [C], with their years where these are known."""
        columns = (self.items[name].gather(rows.astype(np.int64)) for name in ("title", "year"))
        return [title if year is None else f"{title} ({year})" for title, year in zip(*columns, strict=True)]

    def index_of(self, item_ids: Sequence[str]) -> Indices:
        """Look up item indices [C]; raises :class:`DataError` for unknown ids."""
        return index_of(self._index, item_ids)

    def state(self, history: History) -> TasteState:
        """Summarise a history as a state; answers from a state take constant time, whatever the history's length.

        Args:
            history: All of a user's interactions, or later ones to add to another state. Only the last one with each
                item counts, unless the data keeps repeated interactions.

        Returns:
            The state.

        Raises:
            DataError: An item is unknown, or a rating is off the scale.
        """
        history = history.latest(repeats=self.facts.repeats)
        index = index_of(self._index, history.item_ids)
        if unknown := off_scale(self._values, history.ratings):
            raise rating_off_scale(unknown[0], self.facts.rating_values)
        rating = np.searchsorted(self._values, np.asarray(history.ratings, np.float32)).astype(np.uint8)
        newest = slice(max(len(index) - self.facts.history, 0), None)
        return TasteState(
            history.user_id,
            index[newest],
            rating[newest],
            np.asarray(history.timestamps, dtype=np.int64)[newest],
            frozenset(index.tolist()),
            self._rating_state(index, self._values[rating]),
            len(index),
        )

    def added(self, state: TasteState, later: History) -> TasteState:
        """Add later interactions to a state; equals the state of the whole history."""
        return state.followed_by(self.state(later), self.facts.history)

    def removed(self, state: TasteState, past: History) -> TasteState:
        """Remove interactions from a state; equals the state of the history without them.

        Raises:
            DataError: An interaction is not in the state, or the state holds only its newest interactions.
        """
        return state.without(self.state(past))

    def with_items(self, items: Sequence[Item], encoder: ItemEncoder | None = None) -> Recommender:
        """Return a recommender with additional items, known by their texts and categories alone.

        Nothing is trained, and this recommender is unchanged. States of either work with the other.

        Args:
            items: New items; categories unknown to the catalogue are ignored.
            encoder: The training's item encoder; pass it if its files have moved.

        Returns:
            A recommender of all items.

        Raises:
            DataError: An item id is already known.
            MismatchError: ``encoder`` is not the training's encoder.
        """
        names = [item.item_id for item in items]
        if known := [
            name for place, name in enumerate(names) if name in self._index or name in names[:place]
        ]:
            raise DataError(f"item {known[0]!r} is already known; give the new item a new id")
        if not items:
            return self
        described = self.content.relations(items, encoder)
        scorer = self.scorer.with_items(described, self.content.dense(described, len(items)))
        new = items_table(list(items))
        table = pl.concat([self.items, new], how="vertical_relaxed")
        ratings = None if self.ratings is None else self.ratings.with_items(item_features(new, described))
        return replace(self, items=table, scorer=scorer, ratings=ratings, index=None)

    def with_index(self, size: int = 1000) -> Recommender:
        """Return a recommender that retrieves candidates by an index, for catalogues of millions of items.

        Recommendations are then approximate, and probabilities are among the candidates; all else, scores included,
        is the same. The result of :meth:`with_items` has no index.

        Args:
            size: Candidates from each part of the index; more take longer and miss fewer.

        Returns:
            A recommender with an index.

        Raises:
            MissingExtraError: ``faiss`` is not installed.
        """
        return replace(self, index=ItemIndex.of(self.scorer, size))

    def scores(self, users: Sequence[KnownUser]) -> Floats:
        """Score all items for B users, [B, I]; only the order within a row has a meaning."""
        return self.scorer.scores(newest_windows(self._states(users)))

    def recommend(
        self,
        users: Sequence[KnownUser],
        k: int = 10,
        *,
        seen: bool = False,
        categories: Collection[str] = (),
        since: int | None = None,
        diversity: float = 0.0,
    ) -> list[Recommendations]:
        """List the best items for each user.

        Args:
            users: Histories or states.
            k: Length of each list; shorter if fewer items are allowed.
            seen: Also recommend items of the history.
            categories: Only items with one of these categories; all if empty.
            since: Only items of this year or later.
            diversity: Weight of dissimilarity in maximal marginal relevance, from 0 (best items) to 1.

        Returns:
            One list per user; a user without interactions gets the most popular items.

        Raises:
            DataError: An item or category is unknown, or items have no years to filter by.
            PalateError: ``k`` or ``diversity`` is out of range.
        """
        if k < 1:
            raise PalateError(f"k is {k}; expected at least 1 item")
        if not 0 <= diversity <= 1:
            raise PalateError(f"diversity is {diversity:g}; expected a number from 0 to 1")
        states = self._states(users)
        allowed = self._allowed(categories, since)
        asked = _Asked(k, seen, allowed, diversity)
        if self.index is not None:
            return [self._shortlisted(state, asked, self.index) for state in states]
        found = []
        for rows, scores in self.scorer.in_batches(newest_windows(states)):
            found += [self._list(state, one, asked) for state, one in zip(states[rows], scores, strict=True)]
        return found

    def rate(self, users: Sequence[KnownUser], item_ids: Sequence[str]) -> list[Ratings]:
        """Predict each user's ratings of items.

        Args:
            users: Histories or states.
            item_ids: Item ids, [C].

        Returns:
            Ratings for each user, in the items' order; a user without interactions gets the population's.

        Raises:
            DataError: An item is unknown, or the data has no ratings.
        """
        model = self.rating_model
        states = self._states(users)
        index = np.tile(index_of(self._index, item_ids), (len(states), 1))
        expected = model.expected(_stacked(states), index)
        mean = np.clip(expected.mean, self._values[0], self._values[-1])
        titles = self.titles(index[0]) if len(states) else []
        return [
            Ratings(
                state.user_id,
                state.personal,
                tuple(
                    RatedItem(item_id, title, float(rating), float(sd), float(chance))
                    for item_id, title, rating, sd, chance in zip(
                        item_ids, titles, mean[row], expected.sd[row], expected.chance[row], strict=True
                    )
                ),
            )
            for row, state in enumerate(states)
        ]

    def choose(self, users: Sequence[KnownUser], item_ids: Sequence[str]) -> list[ItemChoice]:
        """Choose one of several items for each user, by expected ratings, or by next-item scores without ratings.

        Args:
            users: Histories or states.
            item_ids: At least two different item ids.

        Returns:
            One choice per user, with the probability of each item.

        Raises:
            DataError: An item is unknown.
            PalateError: There are fewer than two items, or one twice.
        """
        if len(set(item_ids)) < 2 or len(set(item_ids)) < len(item_ids):
            raise PalateError(f"a choice between {list(item_ids)}; expected at least two different items")
        states = self._states(users)
        index = index_of(self._index, item_ids)
        if self.ratings is not None:
            expected = self.ratings.expected(_stacked(states), np.tile(index, (len(states), 1)))
            spread = np.sqrt(2 * (expected.sd**2).mean(axis=1, keepdims=True))
            logits = _LOGISTIC * expected.mean / spread
        else:
            logits = self.scorer.log_odds(self.scorer.scores(newest_windows(states))[:, index]).astype(
                np.float64
            )
        odds = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        shares = odds / odds.sum(axis=1, keepdims=True)
        by: Literal["ratings", "next item"] = "next item" if self.ratings is None else "ratings"
        return [
            ItemChoice(
                state.user_id,
                state.personal,
                item_ids[int(np.argmax(share))],
                dict(zip(item_ids, share.tolist(), strict=True)),
                by,
            )
            for state, share in zip(states, shares, strict=True)
        ]

    def _shortlisted(self, state: TasteState, asked: _Asked, index: ItemIndex) -> Recommendations:
        """Recommend among the index's candidates; among all items if too few of these are allowed."""
        window = newest_windows([state])
        items = index.items(window)
        found = self._list(state, self.scorer.of_items(window, items)[0], asked, items)
        if len(found.items) < asked.k:
            return self._list(state, self.scorer.scores(window)[0], asked)
        return found

    def _list(
        self, state: TasteState, scores: Floats, asked: _Asked, items: Ints | None = None
    ) -> Recommendations:
        """List the best items by scores of all items [I], or of candidates ``items`` [C].

        Scores of excluded items are set to -inf in place, which saves a copy of a large catalogue's scores.
        """
        if asked.allowed is not None:
            scores[~(asked.allowed if items is None else asked.allowed[items])] = -np.inf
        if state.seen and not asked.seen:
            hidden = np.fromiter(state.seen, dtype=np.int64)
            scores[hidden if items is None else np.isin(items, hidden)] = -np.inf
        chosen = diverse_items(
            scores,
            asked.k,
            asked.diversity,
            lambda pool: self._similarity(pool if items is None else items[pool]),
        )
        odds = self.scorer.log_odds(scores)
        top = odds[chosen[0]] if len(chosen) else np.float32(0)
        odds -= top
        best = np.exp(odds[chosen])
        total = float(np.exp(odds, out=odds).sum()) if len(chosen) else 1.0
        rows = chosen if items is None else items[chosen]
        titles = self.titles(rows)
        return Recommendations(
            state.user_id,
            state.personal,
            tuple(
                RecommendedItem(self.item_ids[row], title, float(scores[at]), float(share) / total)
                for row, at, title, share in zip(rows, chosen, titles, best, strict=True)
            ),
        )

    def _allowed(self, categories: Collection[str], since: int | None) -> Bools | None:
        """Mask the items that pass the filters, [I]; None without filters."""
        if categories and not self.facts.categories:
            raise DataError(
                f"the items of {self.facts.name} have no categories; leave out the filter by category, or prepare the "
                "data with categories (--items, --category-col)"
            )
        if unknown := [name for name in categories if name not in self.facts.categories]:
            raise DataError(
                f"{unknown[0]!r} is not a category of {self.facts.name}"
                f"{did_you_mean(unknown[0], self.facts.categories)}"
            )
        passed: Bools | None = None
        if categories:
            any_of = pl.col("categories").list.set_intersection(pl.lit(list(categories))).list.len() > 0
            passed = self.items.select(any_of).to_series().to_numpy()
        if since is not None:
            if self.items["year"].null_count() == len(self.items):
                raise DataError(f"the items of {self.facts.name} have no years; leave out the filter by year")
            recent = (self.items["year"].fill_null(-9999) >= since).to_numpy()
            passed = recent if passed is None else passed & recent
        return passed

    def _similarity(self, pool: Ints) -> Floats:
        """Compute similarities of items [C, C] by texts, else categories, else co-occurrence."""
        for name in ("texts", "categories"):
            if (relation := self.scorer.relations.get(name)) is not None:
                return relation.among(pool)
        related = self.scorer.relations["cooccurrence"].among(pool)
        scaled: Floats = related / max(float(related.max(initial=0.0)), 1e-6)
        return scaled

    def _states(self, users: Sequence[KnownUser]) -> list[TasteState]:
        return [self.state(user) if isinstance(user, History) else user for user in users]

    def _rating_state(self, item_index: Indices, ratings: Floats) -> RatingState | None:
        if self.ratings is None:
            return None
        owner = np.zeros(len(item_index), dtype=np.int32)
        return self.ratings.state(owner, item_index, ratings.astype(np.float64), 1)

    @property
    def rating_model(self) -> RatingModel:
        """The rating model; raises :class:`DataError` where the data has no ratings."""
        if self.ratings is None:
            raise DataError(
                f"{self.facts.name} has no ratings, so none can be predicted; choose or recommend instead, or train "
                "on data with a column of ratings"
            )
        return self.ratings

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    @cached_property
    def _values(self) -> Floats:
        return np.asarray(self.facts.rating_values, dtype=np.float32)


_LOGISTIC = 1.702
"""Scale of the logistic function that best approximates the normal distribution function."""


def _stacked(states: Sequence[TasteState]) -> RatingState:
    return RatingState.stacked([state.ratings for state in states if state.ratings is not None])
