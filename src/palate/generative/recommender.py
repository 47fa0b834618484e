"""A recommender that prompts a language model with ids, for scores of items and distributions of ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import RecipeError
from palate.generative.parts import GenerativeParts
from palate.generative.prompts import NO, YES, Form, form_of
from palate.generative.wording import SEPARATOR
from palate.recommend.rating_calibration import ExpectedRatings
from palate.recommend.scorer import chosen_windows
from palate.schema import Bools, Doubles, Floats, Indices, Ints, Windows

if TYPE_CHECKING:
    from palate.config.generative import Family

_AT_ONCE = 32
"""Batch size, in prompts."""


@dataclass(frozen=True, eq=False)
class GenerativeRecommender(GenerativeParts):
    """A trained language model with ids, asked for items and ratings by prompts.

    Example:
        >>> recommender = GenerativeRecommender.from_pretrained("runs/p5")  # doctest: +SKIP
        >>> recommender.push_to_hub("ann/p5", licence="cc-by-4.0")  # doctest: +SKIP
    """

    def item_scores(self, windows: Windows, users: Ints | None, candidates: Indices | None = None) -> Floats:
        """Score items for B users.

        Args:
            windows: Their histories, oldest first.
            users: Indices of the users in the training data, [B]; None if they are not in it.
            candidates: Items to score, [B, C], -1 where a user has fewer; all if None.

        Returns:
            Scores of all items [B, I] or of the candidates [B, C], the highest first.
        """
        family = self._family
        form = self._form(family, candidates is not None)
        windows = chosen_windows(windows, self.facts.event_weights)
        text = self._text(family, form)
        order = np.argsort(windows.length, kind="stable")  # prompts of similar lengths together
        width = len(self.facts.item_names) if candidates is None else candidates.shape[1]
        found = np.empty((len(windows), width), dtype=np.float32)
        for at in range(0, len(order), _AT_ONCE):
            rows = order[at : at + _AT_ONCE]
            of_users = [None] * len(rows) if users is None else self._named(users[rows])
            listed = None if candidates is None else candidates[rows]
            found[rows] = self._scored(family, form, text, windows[rows], of_users, listed)
        return found

    def rating_chances(self, windows: Windows, users: Ints | None, candidates: Indices) -> Doubles:
        """Compute the probabilities of the R rating values for candidates [B, C], [B, C, R]."""
        text, wording = self._text("rating", "stars"), self.facts.wording
        row, column = np.nonzero(candidates >= 0)
        chances = np.full((*candidates.shape, len(wording.stars)), 1 / len(wording.stars))
        named = [None] * len(windows) if users is None else self._named(users)
        who = [self._who_rated(windows, at, named[at]) for at in range(len(windows))]
        for at in range(0, len(row), 4 * _AT_ONCE):
            rows, columns = row[at : at + 4 * _AT_ONCE], column[at : at + 4 * _AT_ONCE]
            prompts = [
                text.format(noun=wording.noun, who=who[user], item=wording.items[item])
                for user, item in zip(rows, candidates[rows, columns].tolist(), strict=True)
            ]
            chances[rows, columns] = _chances(self.model.answer_scores(prompts, wording.stars, "rating"))
        return chances

    def ratings_of_reviews(self, texts: Sequence[str]) -> Doubles:
        """Predict the ratings of N reviews from their texts, [N]."""
        text, wording = self._text("review", "stars"), self.facts.wording
        prompts = [text.format(noun=wording.noun, text=one) for one in texts]
        parts = [
            _chances(self.model.answer_scores(prompts[at : at + 4 * _AT_ONCE], wording.stars, "review"))
            for at in range(0, len(prompts), 4 * _AT_ONCE)
        ]
        found: Doubles = np.concatenate(parts) @ np.array(self.facts.rating_values)
        return found

    def expected_ratings(self, windows: Windows, users: Ints | None, candidates: Indices) -> ExpectedRatings:
        """Predict ratings of candidates [B, C] by the distribution over rating values."""
        values = np.array(self.facts.rating_values)
        chances = self.rating_chances(windows, users, candidates)
        mean = chances @ values
        variance = np.maximum(chances @ values**2 - mean**2, 0)
        liked = chances[..., values > self.facts.like_above].sum(axis=-1)
        return ExpectedRatings(mean, np.maximum(np.sqrt(variance), 1e-3), liked)

    def write(self, family: Family, form: Form, fields: Sequence[dict[str, str]]) -> list[str]:
        """Generate answers to the prompt of a form, filled with these fields."""
        text = self._text(family, form)
        prompts = [text.format(noun=self.facts.noun, **one) for one in fields]
        found: list[str] = []
        for at in range(0, len(prompts), 4 * _AT_ONCE):
            found += self.model.write(prompts[at : at + 4 * _AT_ONCE], family)
        return found

    def _text(self, family: Family, form: Form) -> str:
        """Return the prompt of a form that the settings ask for, with its fields to fill."""
        forms = form_of(family, form)
        return forms.held_out if self.asked.prompt == "held-out" else forms.trained[0]

    @property
    def _family(self) -> Family:
        trained = self.model.settings.families
        if self.asked.family != "auto":
            if self.asked.family not in trained:
                raise RecipeError(
                    f"the family {self.asked.family} was not trained, but {', '.join(trained)}; ask for one of these"
                )
            return self.asked.family
        for family in ("sequential", "direct"):
            if family in trained:
                return family
        raise RecipeError(
            f"the run was trained on {', '.join(trained)}, which rank no items; train one with the family sequential "
            "or direct"
        )

    def _form(self, family: Family, among: bool) -> Form:
        if family == "sequential":
            return "next"
        form = self.asked.form
        if form == "auto":
            return "pick" if among else "open"
        if form != "open" and not among:
            raise RecipeError(f"form={form} asks about candidates, and all items are ranked; take form=open")
        return form

    def _named(self, users: Ints) -> list[int | None]:
        """Replace users without training interactions by None."""
        if self.asked.users == "windows":
            return [None] * len(users)
        return [user if self.facts.known[user] else None for user in users.tolist()]

    def _scored(
        self,
        family: Family,
        form: Form,
        text: str,
        windows: Windows,
        users: Sequence[int | None],
        candidates: Indices | None,
    ) -> Floats:
        wording, most = self.facts.wording, self.model.settings.max_history
        histories = [
            windows.item_index[row, max(length - most, 0) : length].tolist()
            for row, length in enumerate(windows.length.tolist())
        ]
        fields = []
        for row, (user, history) in enumerate(zip(users, histories, strict=True)):
            listed = wording.listed(history)
            who = wording.who(user, "" if family == "sequential" else listed)
            one = {"who": who, "history": listed, "noun": wording.noun}
            if candidates is not None:  # in an order that does not depend on which is asked for
                offered = sorted(wording.items[item] for item in candidates[row].tolist() if item >= 0)
                one["candidates"] = SEPARATOR.join(offered)
            fields.append(one)
        if form == "yes-no":
            assert candidates is not None
            return self._yes_scores(text, fields, candidates)
        prompts = [text.format(**one) for one in fields]
        if self.asked.decoding == "exhaustive":
            scores = self.model.item_scores(prompts, family)
        else:
            scores = self._beam_scores(prompts, family)
        return scores if candidates is None else np.take_along_axis(scores, np.maximum(candidates, 0), axis=1)

    def _beam_scores(self, prompts: Sequence[str], family: Family) -> Floats:
        items, score = self.model.beam_items(prompts, family, self.asked.beams)
        lowest = float(score[np.isfinite(score)].min(initial=0.0)) - 1.0
        scores = np.full((len(prompts), len(self.facts.item_names)), lowest, dtype=np.float32)
        row, column = np.nonzero(items >= 0)
        scores[row, items[row, column]] = score[row, column]
        return scores

    def _yes_scores(self, text: str, fields: Sequence[dict[str, str]], candidates: Indices) -> Floats:
        wording = self.facts.wording
        row, column = np.nonzero(candidates >= 0)
        prompts = [
            text.format(**fields[at], item=wording.items[item])
            for at, item in zip(row.tolist(), candidates[row, column].tolist(), strict=True)
        ]
        scores = np.zeros(candidates.shape, dtype=np.float32)
        for at in range(0, len(prompts), 4 * _AT_ONCE):
            part = slice(at, at + 4 * _AT_ONCE)
            said = self.model.answer_scores(prompts[part], (YES, NO), "direct")
            scores[row[part], column[part]] = said[:, 0] - said[:, 1]
        return scores

    def _who_rated(self, windows: Windows, row: int, user: int | None) -> str:
        wording = self.facts.wording
        if user is not None:
            return wording.who(user)
        shown = slice(
            max(int(windows.length[row]) - self.model.settings.max_history, 0), int(windows.length[row])
        )
        items, ratings = windows.item_index[row, shown].tolist(), windows.rating_index[row, shown].tolist()
        return wording.who(None, wording.rated(items, ratings))


def _chances(scores: Floats) -> Doubles:
    """Normalise log-probabilities of answers [N, C] to probabilities that sum to 1."""
    likely = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    found: Doubles = likely / likely.sum(axis=1, keepdims=True)
    return found


def known_flags(known: Bools) -> tuple[bool, ...]:
    """Convert the mask of known users to plain values."""
    return tuple(known.tolist())
