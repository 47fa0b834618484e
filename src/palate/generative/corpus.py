"""Training examples of each family, drawn from a dataset's training interactions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import DataError
from palate.generative.prompts import NO, PROMPTS, YES, Form
from palate.schema import Interactions, Ints

if TYPE_CHECKING:
    from palate.config.generative import Family, GenerativeSettings
    from palate.data.dataset import Dataset
    from palate.generative.categories import LabelledWindows
    from palate.generative.wording import Wording

_TEXT_CHARACTERS = 400
"""Maximum length of a review in a prompt, in characters; longer ones are truncated."""


@dataclass(frozen=True)
class Example:
    """A prompt and its target answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Corpus:
    """Samples training examples of each family from the training interactions only."""

    training: Dataset
    wording: Wording
    settings: GenerativeSettings
    labelled: LabelledWindows | None = None
    """Source of the examples of the family ``categories``."""

    @cached_property
    def chosen(self) -> Interactions:
        """Interactions that count as choices of their item."""
        events = self.training.interactions
        return events.where(self.training.chosen(events))

    def check(self) -> None:
        """Raise :class:`DataError` if the data lacks what a family requires, such as ratings."""
        info = self.training.info
        needs: dict[Family, tuple[bool, str]] = {
            "rating": (info.feedback == "ratings", "ratings"),
            "explanation": (self._texts is not None, "texts of interactions"),
            "review": (
                self._texts is not None and info.feedback == "ratings",
                "texts of interactions and ratings",
            ),
            "sequential": (bool((self.chosen.lengths > 1).any()), "users with two training interactions"),
        }
        for family in self.settings.families:
            there, what = needs.get(family, (len(self.chosen) > 0, "training interactions"))
            if not there:
                raise DataError(
                    f"{info.name} has no {what}, which the family {family} needs; leave it out of "
                    "generative.families",
                    self.training.path,
                )

    def batch(
        self, family: Family, size: int, rng: np.random.Generator, window_labels: bool = False
    ) -> list[Example]:
        """Sample examples of a family, each with one of its training prompts.

        Args:
            family: The family.
            size: Number of examples.
            rng: Random number generator.
            window_labels: For ``categories``, compute labels from the window instead of the full history.

        Returns:
            The examples.
        """
        if family == "categories":
            return self._category_batch(size, rng, window_labels)
        return [self._drawn(family, rng) for _ in range(size)]

    def _category_batch(self, size: int, rng: np.random.Generator, window_labels: bool) -> list[Example]:
        assert self.labelled is not None, "the family categories is drawn from labelled windows"
        users, windows, answers = self.labelled.draw(size, rng, window_labels)
        texts, found = PROMPTS["categories"][0].trained, []
        for row, (user, answer) in enumerate(zip(users.tolist(), answers, strict=True)):
            text = texts[int(rng.integers(len(texts)))]
            named = (
                not self._anonymous(rng) and not window_labels
            )  # an id does not tell which window was drawn
            who = self.wording.who(user) if named else self.wording.of_window(windows, row)
            found.append(Example(text.format(who=who, fields=self.labelled.fields), answer))
        return found

    def _drawn(self, family: Family, rng: np.random.Generator) -> Example:
        forms = PROMPTS[family]
        texts = [(one.form, text) for one in forms for text in one.trained]
        form, text = texts[int(rng.integers(len(texts)))]
        fields, answer = self._makers[form](rng) if family != "review" else self._review(rng)
        return Example(text.format(noun=self.wording.noun, **fields), answer)

    @property
    def _makers(self) -> dict[Form, Callable[[np.random.Generator], tuple[dict[str, str], str]]]:
        return {
            "next": self._next,
            "open": self._open,
            "pick": self._pick,
            "yes-no": self._yes_no,
            "stars": self._stars,
            "like": self._like,
            "text": self._explanation,
            "text of stars": self._explanation,
        }

    def _next(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        events = self.chosen
        row = int(self._later_rows[rng.integers(len(self._later_rows))])
        user = int(self._owner[row])
        before = events.item_index[max(int(events.offsets[user]), row - self.settings.max_history) : row]
        who = self.wording.who(None if self._anonymous(rng) else user)
        fields = {"who": who, "history": self.wording.listed(before.tolist())}
        return fields, self.wording.items[int(events.item_index[row])]

    def _open(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        user, item = self._choice(rng)
        return {"who": self._who(user, item, rng)}, self.wording.items[item]

    def _pick(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        user, item = self._choice(rng)
        offered = rng.permutation([item, *self._not_chosen(user, self.settings.candidates, rng)])
        fields = {"who": self._who(user, item, rng), "candidates": self.wording.listed(offered.tolist())}
        return fields, self.wording.items[item]

    def _yes_no(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        user, item = self._choice(rng)
        yes = rng.random() < 0.5
        asked = item if yes else self._not_chosen(user, 1, rng)[0]
        fields = {"who": self._who(user, item, rng), "item": self.wording.items[asked]}
        return fields, YES if yes else NO

    def _stars(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        row, fields = self._rated(int(rng.integers(len(self.training.interactions))), rng)
        return fields, self.wording.stars[int(self.training.interactions.rating_index[row])]

    def _like(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        row, fields = self._rated(int(rng.integers(len(self.training.interactions))), rng)
        value = self.training.info.rating_values[int(self.training.interactions.rating_index[row])]
        return fields, YES if value > self.training.info.like_above else NO

    def _explanation(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        row, fields = self._rated(int(self._told_rows[rng.integers(len(self._told_rows))]), rng)
        stars = self.wording.stars[int(self.training.interactions.rating_index[row])]
        return {**fields, "stars": stars}, self._text(row)

    def _review(self, rng: np.random.Generator) -> tuple[dict[str, str], str]:
        row = int(self._told_rows[rng.integers(len(self._told_rows))])
        stars = self.wording.stars[int(self.training.interactions.rating_index[row])]
        return {"text": self._text(row)[:_TEXT_CHARACTERS]}, stars

    def _choice(self, rng: np.random.Generator) -> tuple[int, int]:
        row = int(rng.integers(len(self.chosen)))
        return int(self._owner[row]), int(self.chosen.item_index[row])

    def _who(self, user: int, target: int, rng: np.random.Generator) -> str:
        """Format a user: by id or, for a share of the examples, by the newest other choices."""
        if not self._anonymous(rng):
            return self.wording.who(user)
        items = self.chosen.item_index[self._of_user(self.chosen, user)]
        others = items[items != target][-self.settings.max_history :]
        return self.wording.who(None, self.wording.listed(others.tolist()))

    def _rated(self, row: int, rng: np.random.Generator) -> tuple[int, dict[str, str]]:
        """Format the user and the item of a rating; for a share of the examples the user by other ratings."""
        events = self.training.interactions
        user = int(np.searchsorted(events.offsets, row, side="right")) - 1
        who = self.wording.who(user)
        if self._anonymous(rng):
            rows = self._of_user(events, user)
            others = rows[events.item_index[rows] != events.item_index[row]]
            who = self.wording.who(
                None, self._written(np.sort(rng.permutation(others)[: self.settings.max_history]))
            )
        return row, {"who": who, "item": self.wording.items[int(events.item_index[row])]}

    def _written(self, rows: Ints) -> str:
        events = self.training.interactions
        return self.wording.rated(events.item_index[rows].tolist(), events.rating_index[rows].tolist())

    def _anonymous(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < self.settings.anonymous_share)

    def _not_chosen(self, user: int, count: int, rng: np.random.Generator) -> list[int]:
        """Sample distinct items that a user did not choose; fewer if there are no more."""
        chosen = set(self.chosen.item_index[self._of_user(self.chosen, user)].tolist())
        items = len(self.training.items)
        count = min(count, items - len(chosen))
        found: dict[int, None] = {}
        while len(found) < count:
            drawn = int(rng.integers(items))
            if drawn not in chosen:
                found[drawn] = None
        return list(found)

    @staticmethod
    def _of_user(events: Interactions, user: int) -> Ints:
        return np.arange(int(events.offsets[user]), int(events.offsets[user + 1]))

    def _text(self, row: int) -> str:
        assert self._texts is not None
        return " ".join(str(self._texts[row]).split())

    @cached_property
    def _owner(self) -> Ints:
        return self.chosen.owner

    @cached_property
    def _later_rows(self) -> Ints:
        """Rows with an earlier row of the same user."""
        first = np.zeros(len(self.chosen), dtype=np.bool_)
        starts = self.chosen.offsets[:-1]
        first[starts[starts < len(self.chosen)]] = True
        return np.flatnonzero(~first)

    @cached_property
    def _texts(self) -> list[str | None] | None:
        reviews = self.training.reviews
        return None if reviews is None else reviews.to_list()

    @cached_property
    def _told_rows(self) -> Ints:
        assert self._texts is not None
        return np.flatnonzero([bool(text) for text in self._texts])
