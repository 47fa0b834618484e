"""Answers about users with what they rest on: how often a user rated each category that is named, and how highly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palate.items.categories import MEMBER
from palate.tasks.statistics import category_statistics

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel
    from palate.schema import History
    from palate.tasks.category_preference import CategoryPreference


@dataclass(frozen=True)
class Evidence:
    """What the naming of a category rests on."""

    name: str
    count: int
    """Interactions with its items."""
    mean: float | None
    """Their mean rating, or mean weight without ratings; None if there is none."""
    chance: float
    """Probability that the user's full history says so."""


@dataclass(frozen=True)
class EvidencedAnswer:
    """An answer about a user."""

    user_id: str
    question: str
    text: str
    interactions: int
    """Interactions that were read."""
    liked: list[Evidence]
    """The categories that the answer names; those that the user encoder names, if the question is not the task's."""
    disliked: list[Evidence]


def evidenced_answers(
    model: PersonalizedModel,
    histories: Sequence[History],
    task: CategoryPreference,
    question: str | None = None,
) -> list[EvidencedAnswer]:
    """Answer about each history, with evidence.

    Args:
        model: A model that reads items by their categories.
        histories: The histories.
        task: The task over the model's categories.
        question: What is asked; the task's instruction if None.

    Returns:
        An answer for each history.
    """
    user = model.encode(histories)
    texts = model.generate_from(user, question)
    assert user.category_logits is not None
    assert user.named is not None
    chances = user.category_logits.sigmoid().cpu().numpy()
    if question is None:
        labels = task.parse(texts)
        named = [labels.liked, labels.disliked]
    else:
        named = list(user.named.cpu().numpy().transpose(1, 0, 2))
    windows = model.windows(histories)
    membership = model.table.membership >= MEMBER // 2  # type: ignore[union-attr]
    read = category_statistics(windows.interactions(), membership, model.table.rating_values)
    answers = []
    for row, (history, text) in enumerate(zip(histories, texts, strict=True)):
        halves = [
            [
                Evidence(
                    task.label_names[label],
                    int(read.count[row, label]),
                    float(read.total[row, label] / read.count[row, label])
                    if read.count[row, label]
                    else None,
                    float(chances[row, label, half]),
                )
                for label in named[half][row]
                if label >= 0
            ]
            for half in (0, 1)
        ]
        asked = question or model.settings.instruction
        answers.append(EvidencedAnswer(history.user_id, asked, text, int(read.length[row]), *halves))
    return answers
