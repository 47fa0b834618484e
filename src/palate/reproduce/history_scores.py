"""Scores by the length of the users' full histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palate.evaluation.evaluate import read_answers
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import Examples
    from palate.tasks.base import Task

GROUPS = 4


class HistoryScore(Frozen):
    """Liked F1 of the users whose full histories have ``shortest`` to ``longest`` interactions."""

    shortest: int
    longest: int
    users: int
    liked_f1: float


def scores_by_history(
    answers: Sequence[str], examples: Examples, task: Task, dataset: Dataset
) -> tuple[HistoryScore, ...]:
    """Score B answers in groups of about equally many users, from the shortest histories to the longest."""
    length = dataset.interactions.lengths[examples.user_index]
    read = read_answers(answers, examples.truth, task)
    groups = np.array_split(np.argsort(length, kind="stable"), min(GROUPS, len(length)))
    return tuple(
        HistoryScore(
            shortest=int(length[rows].min()),
            longest=int(length[rows].max()),
            users=len(rows),
            liked_f1=read[rows].liked_f1,
        )
        for rows in groups
    )
