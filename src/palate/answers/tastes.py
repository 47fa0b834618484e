"""Tastes of a user by category: a user encoder's probabilities, and mean ratings expected by the recommender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from palate.recommend.scorer import popularity_weights
from palate.schema import Doubles, History, Ints

if TYPE_CHECKING:
    from palate.encoders.base import UserPrompt
    from palate.model.model import PersonalizedModel
    from palate.recommend.recommender import Recommender
    from palate.recommend.state import TasteState

OWN_RATINGS = 5.0
"""Shrinkage of a category's mean rating: ratings at which the user's mean weighs as much as the prediction."""
CHANGED = 1.96
"""Significance threshold of a changed share, in standard errors."""
FEWEST_NEW, SHARE_NEW = 10, 0.25
"""Number of newest events that are compared with earlier ones: a quarter of the history, at least ten."""


@dataclass(frozen=True)
class ViewedTaste:
    """A category that the user encoder chose, with the probability of the label by the full history."""

    name: str
    chance: float


@dataclass(frozen=True)
class TasteView:
    """A user encoder's predictions for a history: the categories that it chose, and the log-odds of all."""

    liked: tuple[ViewedTaste, ...]
    disliked: tuple[ViewedTaste, ...]
    log_odds: Mapping[str, tuple[float, float]]
    """Log-odds that a category is liked and that it is disliked."""


def views_of(model: PersonalizedModel, histories: Sequence[History]) -> list[TasteView]:
    """Compute the views of histories by a model whose user encoder predicts categories."""
    return views_of_prompt(model, model.encode(histories))


def views_of_prompt(model: PersonalizedModel, user: UserPrompt) -> list[TasteView]:
    """Convert the logits of encoded users to views."""
    assert user.category_logits is not None, "the user encoder predicts categories"
    names, logits = model.settings.categories, user.category_logits.double().cpu().numpy()
    named = _named(logits, model.settings.task.max_labels) if user.named is None else user.named.cpu().numpy()
    found = []
    for row, halves in enumerate(named.tolist()):
        liked, disliked = (
            tuple(
                ViewedTaste(names[label], float(1 / (1 + np.exp(-logits[row, label, half]))))
                for label in labels
                if label >= 0
            )
            for half, labels in enumerate(halves)
        )
        both = {name: (float(a), float(b)) for name, (a, b) in zip(names, logits[row].tolist(), strict=True)}
        found.append(TasteView(liked, disliked, both))
    return found


def _named(logits: Doubles, most: int) -> Ints:
    """Choose categories [B, 2, most] with a probability above one half, most probable first, padded with -1."""
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :most]  # [B, most, 2]
    named = np.where(np.take_along_axis(logits, ranked, axis=1) > 0, ranked, -1)
    return np.asarray(named.transpose(0, 2, 1), dtype=np.int64)


@dataclass(frozen=True)
class CategoryRating:
    """Expected mean rating by a user of a category's items."""

    name: str
    count: int
    """Number of the category's ratings in the history."""
    mean: float
    sd: float
    chance: float
    """Probability that the mean is above the dataset's threshold of a like."""


@dataclass(frozen=True)
class ChangedShare:
    """A category's share among the newest events, and among earlier ones."""

    name: str
    newest: float
    before: float


class CategoryTastes:
    """Tastes by category from states of a recommender.

    A category's mean rating is the user's mean, shrunk towards the mean of the rating model's predictions for the
    category's items, weighted by popularity.
    """

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self._index = {name: at for at, name in enumerate(recommender.facts.categories)}

    @cached_property
    def membership(self) -> sparse.csr_matrix:
        """Membership of items in categories, [I, L]."""
        listed = self.recommender.items["categories"].to_list()
        pairs = [
            (item, self._index[name])
            for item, names in enumerate(listed)
            for name in names or ()
            if name in self._index
        ]
        rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        shape = (len(listed), len(self._index))
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)

    @cached_property
    def _centres(self) -> Doubles:
        """Popularity-weighted mean factors of the categories' items, [M, L, K + 1]."""
        weights = self.membership.multiply(
            popularity_weights(self.recommender.scorer.popularity)[:, None]
        ).tocsr()
        total = np.maximum(np.asarray(weights.sum(axis=0)).ravel(), 1e-9)[:, None]
        items = self.recommender.rating_model.items.astype(np.float64)
        return np.stack([np.asarray(weights.T @ one) / total for one in items])

    def ratings(self, state: TasteState) -> list[CategoryRating]:
        """Predict the mean ratings of all categories; raises :class:`DataError` for data without ratings."""
        model, facts = self.recommender.rating_model, self.recommender.facts
        assert state.ratings is not None
        users, covariance = (one[0] for one in model.posterior(state.ratings))  # [M, K], [M, K, K]
        factors, offset = self._centres[..., :-1], self._centres[..., -1]
        each = model.mean + np.einsum("mlk,mk->ml", factors, users) + offset
        within = np.einsum("mlk,mkj,mlj->ml", factors, covariance, factors)
        expected, variance = each.mean(axis=0), within.mean(axis=0) + each.var(axis=0)
        own = self.membership[state.item_index]
        values = np.asarray(facts.rating_values, dtype=np.float64)[state.rating_index]
        count = np.asarray(own.sum(axis=0)).ravel()
        total = np.asarray(own.T @ values).ravel()
        mean = (total + OWN_RATINGS * expected) / (count + OWN_RATINGS)
        part = OWN_RATINGS / (count + OWN_RATINGS)
        noise = float(model.noise.mean())
        sd = np.sqrt(part**2 * variance + noise / (count + OWN_RATINGS))
        chance = ndtr((mean - facts.like_above) / sd)
        return [
            CategoryRating(name, int(count[at]), float(mean[at]), float(sd[at]), float(chance[at]))
            for name, at in self._index.items()
        ]

    def counts(self, state: TasteState) -> dict[str, int]:
        """Count the state's events by category."""
        count = np.asarray(self.membership[state.item_index].sum(axis=0)).ravel()
        return {name: int(count[at]) for name, at in self._index.items()}

    def changes(self, state: TasteState) -> tuple[ChangedShare | None, ChangedShare | None, int]:
        """Find the categories whose share increased and decreased most among the newest events.

        Returns:
            Both, None if not significant, and the number of newest events; 0 if there are too few events to compare.
        """
        events = len(state.item_index)
        newest = max(FEWEST_NEW, int(SHARE_NEW * events))
        if events < 2 * newest or not self._index:
            return None, None, 0
        own = self.membership[state.item_index]
        new, old = (np.asarray(part.mean(axis=0)).ravel() for part in (own[-newest:], own[:-newest]))
        pooled = np.asarray(own.mean(axis=0)).ravel()
        error = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-9) * (1 / newest + 1 / (events - newest)))
        z = (new - old) / error
        names = list(self._index)
        rose, fell = int(np.argmax(z)), int(np.argmin(z))

        def told(at: int) -> ChangedShare:
            return ChangedShare(names[at], float(new[at]), float(old[at]))

        return (
            told(rose) if z[rose] > CHANGED else None,
            told(fell) if z[fell] < -CHANGED else None,
            newest,
        )
