"""Wordings of questions by kind, for training and held out from it."""

from __future__ import annotations

from dataclasses import dataclass

from palate.schema import QuestionKind

NAMING: tuple[QuestionKind, ...] = ("preference", "liked", "disliked")
"""Kinds whose answers are category names."""
ABOUT_ITEMS: dict[QuestionKind, QuestionKind] = {"item-yes-no": "yes-no", "item-pair": "pair"}
"""Kinds of questions about items, and the kinds about categories whose wordings they share."""


@dataclass(frozen=True)
class Wordings:
    """Templates of one kind of question.

    They may contain ``{fields}`` (the plural noun for categories), ``{category}``, ``{other}``, ``{item}``, and the
    ends of the rating scale, ``{low}`` and ``{high}``.
    """

    trained: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """All wordings, those used in training first."""
        return self.trained + self.held_out


WORDINGS: dict[QuestionKind, Wordings] = {
    "preference": Wordings(
        (
            "Which {fields} does this user like and dislike?",
            "Name the {fields} that this user likes, and those that they don't like.",
            "What are the best and the worst {fields} for this user?",
        ),
        ("Describe the taste of this person: favorite {fields}, and {fields} to avoid.",),
    ),
    "liked": Wordings(
        (
            "Which {fields} does this user like?",
            "Name this user's favorite {fields}.",
        ),
        ("What {fields} should be recommended to this person?",),
    ),
    "disliked": Wordings(
        (
            "Which {fields} does this user dislike?",
            "Name the {fields} that this user doesn't like.",
        ),
        ("What {fields} should this person not be shown?",),
    ),
    "yes-no": Wordings(
        (
            "Does this user like {category}?",
            "Is {category} something for this user?",
        ),
        ("Would this person enjoy {category}?",),
    ),
    "pair": Wordings(
        (
            "Which does this user prefer, {category} or {other}?",
            "{category} or {other}: what does this user like more?",
        ),
        ("Should this person be shown {category} rather than {other}, or the other way round?",),
    ),
    "rating": Wordings(
        (
            "How does this user rate {item}, from {low} to {high}?",
            "On a scale from {low} to {high}, what is this user's rating of {item}?",
        ),
        ("What score between {low} and {high} would this person give to {item}?",),
    ),
}
KINDS: tuple[QuestionKind, ...] = (*WORDINGS, *ABOUT_ITEMS)
"""All kinds of questions."""


def wordings_of(kind: QuestionKind) -> Wordings:
    """Return the wordings of a kind; those about items have ``{category}`` and ``{other}`` for the items."""
    return WORDINGS[ABOUT_ITEMS.get(kind, kind)]
