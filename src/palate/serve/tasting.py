"""Tastes by category with confidence intervals, and their course over the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import expit

from palate.answers.tastes import CategoryRating, CategoryTastes
from palate.errors import NotServedError
from palate.schema import Doubles, History, Item
from palate.serve.catalogue import ServedItems
from palate.serve.engine import ServedModel, Users
from palate.serve.recommending import ServedRecommender
from palate.serve.responses import Taste, TasteEstimate, TasteOfCategory, TastePoint
from palate.serve.schemas import SentUser
from palate.serve.settings import Limits

HALVES = 16
"""Number of random halves of a history from which standard errors are estimated."""
POINTS = 8
"""Maximum number of prefixes of a history, the last being the whole, at which the taste is computed."""
WIDTH = 1.645
"""Half width of a 90% interval, in standard errors."""


class Tasting:
    """Tastes of stored users and given histories, from the user encoder's probabilities or predicted ratings."""

    def __init__(self, users: Users, items: ServedItems, limits: Limits) -> None:
        self._users, self._items, self._limits = users, items, limits

    def taste(self, sent: SentUser, check: Callable[[], object] = lambda: None) -> Taste:
        """Compute a user's taste by category.

        Args:
            sent: A stored user or a given history.
            check: Called between batches; may raise an error to cancel the work.

        Raises:
            UnknownUserError: The user is not stored.
            DataError: The history is invalid or too long.
            NotServedError: Neither category probabilities nor predicted ratings are available.
        """
        self._limits.check_history(sent)
        version: int | None = None
        new: Sequence[Item] = ()
        if sent.user_id is not None:
            found = self._users.store.history(sent.user_id, self._limits.events)
            version, history = found.version, found.history
            self._users.learn(history.item_ids)
        else:
            history, new = self._users.given(sent.history or [])
        model, recommender = self._users.model, self._users.recommender
        told = None if model is None else self._by_view(model, history, new, check)
        if told is None and recommender is not None and recommender.recommender.ratings is not None:
            told = self._by_ratings(recommender, history, new)
        if told is None:
            raise NotServedError(
                "tastes by category need a user encoder that predicts categories, as in the model  packaged, or a "
                "recommender of data with ratings; serve one of them"
            )
        return told.model_copy(update={"user_id": sent.user_id, "version": version})

    def _by_view(
        self, model: ServedModel, history: History, new: Sequence[Item], check: Callable[[], object]
    ) -> Taste | None:
        """Compute the taste from the user encoder's probabilities; None if it predicts none."""
        ends = _beginnings(len(history))
        histories = [
            history,
            history.take([]),
            *(history.take(range(end)) for end in ends),
            *halves_of(history),
        ]
        named, passes = model.prompts_of(histories, new)
        parts = []
        for prompt in passes:
            check()
            if prompt.category_logits is None:
                return None
            parts.append(prompt.category_logits.double().cpu())
        logits: Doubles = torch.cat(parts).numpy()  # [B, L, 2]
        whole, nobody, course, halves = np.split(logits, [1, 2, 2 + len(ends)])
        error = error_by_halves(whole[0], halves)
        low, high = (expit(whole[0] + sign * WIDTH * error) for sign in (-1, 1))
        value, everyone = expit(whole[0]), expit(nobody[0])
        counts = self._counts(history, new)

        def estimate(at: int, half: int) -> TasteEstimate:
            rows = (value, low, high, everyone)
            return TasteEstimate(
                **dict(zip(TasteEstimate.model_fields, (float(row[at, half]) for row in rows), strict=True))
            )

        names = named.settings.categories
        return Taste(
            by="view",
            read=len(history),
            least=0.0,
            most=1.0,
            like_above=None,
            categories=[
                TasteOfCategory(
                    name=name,
                    count=counts[name],
                    liked=estimate(at, 0),
                    disliked=estimate(at, 1),
                    rating=None,
                )
                for at, name in enumerate(names)
            ],
            course=_course(history, ends, expit(course[:, :, 0])),
            model=model.identity,
        )

    def _by_ratings(self, served: ServedRecommender, history: History, new: Sequence[Item]) -> Taste:
        """Compute the taste from the expected mean ratings of the categories' items."""
        recommender = served.knowing(new)
        tastes = CategoryTastes(recommender)

        def rated(some: History) -> list[CategoryRating]:
            return tastes.ratings(recommender.state(some))

        ends = _beginnings(len(history))
        nobody, facts = rated(history.take([])), recommender.facts
        course = [rated(history.take(range(end))) for end in ends]
        whole = course[-1] if course else nobody
        categories = []
        for one, everyone in zip(whole, nobody, strict=True):
            low, high = one.mean - WIDTH * one.sd, one.mean + WIDTH * one.sd
            rating = TasteEstimate(value=one.mean, low=low, high=high, everyone=everyone.mean)
            categories.append(
                TasteOfCategory(name=one.name, count=one.count, liked=None, disliked=None, rating=rating)
            )
        return Taste(
            by="ratings",
            read=len(history),
            least=facts.rating_values[0],
            most=facts.rating_values[-1],
            like_above=facts.like_above,
            categories=categories,
            course=_course(history, ends, np.array([[one.mean for one in point] for point in course])),
            model=served.identity,
        )

    def _counts(self, history: History, new: Sequence[Item]) -> Counter[str]:
        """Count the events of a history by category."""
        described = {item.item_id: item for item in new}
        known = self._items.items(history.item_ids)
        items = (item or described.get(one) for item, one in zip(known, history.item_ids, strict=True))
        return Counter(name for item in items if item is not None for name in item.categories)


def _beginnings(length: int) -> list[int]:
    """Return the lengths of a history's prefixes, ascending, the last being the whole."""
    steps = min(POINTS, length)
    return [round(length * (at + 1) / steps) for at in range(steps)]


def halves_of(history: History) -> list[History]:
    """Draw random halves of a history with a fixed seed; empty for fewer than two events."""
    if len(history) < 2:
        return []
    rng = np.random.default_rng(0)
    size = len(history) // 2
    return [
        history.take(np.sort(rng.choice(len(history), size, replace=False)).tolist()) for _ in range(HALVES)
    ]


def error_by_halves(whole: Doubles, halves: Doubles) -> Doubles:
    """Estimate the standard error of values [...] by those of halves [H, ...]: one shows as much as it leaves out."""
    return np.sqrt(((halves - whole) ** 2).mean(axis=0)) if len(halves) else np.zeros_like(whole)


def _course(history: History, ends: Sequence[int], values: Doubles) -> list[TastePoint]:
    return [
        TastePoint(events=end, timestamp=history.timestamps[end - 1], values=row.tolist())
        for end, row in zip(ends, values, strict=True)
    ]
