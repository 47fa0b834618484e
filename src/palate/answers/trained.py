"""Rephrasing of matched questions in the wordings that language models are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palate.errors import QuestionError
from palate.tasks.questions import Question, about_categories
from palate.tasks.wordings import WORDINGS
from palate.words import plural

if TYPE_CHECKING:
    from palate.answers.answerer import AskedQuestion
    from palate.schema import QuestionKind

TRAINED: tuple[QuestionKind, ...] = ("preference", "liked", "disliked", "yes-no", "pair")
"""Kinds that a language model can answer; questions about items need a recommender."""


def in_trained_words(asked: AskedQuestion, categories: Sequence[str], field: str) -> Question:
    """Rephrase a question in a wording that language models are trained on, with the positions of its categories.

    Args:
        asked: The question.
        categories: Names of the model's categories.
        field: Noun for a category, in the singular.

    Raises:
        QuestionError: Language models are not trained on this kind.
    """
    if asked.kind not in TRAINED:
        raise QuestionError(
            f"a question about {asked.meaning} ({asked.kind}) needs a recommender; use  palate ask  or  palate answers"
        )
    index = [categories.index(one.name) for one in asked.entities if one.kind == "category"]
    worded = about_categories(WORDINGS[asked.kind].trained[0], index, categories, fields=plural(field))
    return Question(worded.text, worded.entities, asked.kind)
