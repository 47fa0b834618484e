"""Answers with evidence: counts and mean ratings of the categories that they name, and their probabilities."""

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
    """Evidence for a category that an answer names."""

    name: str
    count: int
    """Number of interactions with its items."""
    mean: float | None
    """Mean rating of these interactions, or mean weight for data without ratings; None if there are none."""
    chance: float
    """Probability, from the user encoder, of the label by the full history."""


@dataclass(frozen=True)
class EvidencedAnswer:
    """An answer about a user, with evidence for the categories that it names."""

    user_id: str
    question: str
    text: str
    interactions: int
    """Number of interactions that were read."""
    liked: list[Evidence]
    """Categories that the answer names, or for another question than the task's those that the user encoder chose."""
    disliked: list[Evidence]


def evidenced_answers(
    model: PersonalizedModel,
    histories: Sequence[History],
    task: CategoryPreference,
    question: str | None = None,
) -> list[EvidencedAnswer]:
    """Generate an answer about each history, with evidence.

    Args:
        model: A model whose user encoder reads items by their categories.
        histories: The histories.
        task: The task over the model's categories.
        question: The question; None for the task's instruction.

    Returns:
        One answer per history.
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
