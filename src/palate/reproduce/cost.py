"""What an answer costs: the vectors that the backbone reads, multiply-adds, time and memory."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from palate.model.personalized import PersonalizedModel
    from palate.schema import Windows

TIMED = 10
"""Users who are answered one by one."""
COUNTED = 8
"""Of them, those whose prompts' multiply-adds are counted."""


class AnswerCost(BaseModel):
    """The cost of an answer to one user, asked alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_vectors: float
    """Vectors that the backbone reads: task prompt, history and instruction; the mean over users."""
    multiply_adds: float
    """Of the answer, from the window to the last token; the mean over users."""
    milliseconds: float
    """The median over users."""


def answer_cost(model: PersonalizedModel, windows: Windows) -> AnswerCost:
    """Answer the first users of B windows [B, P] one by one."""
    users = min(len(windows), TIMED + 1)
    alone = [windows[user : user + 1] for user in range(users)]
    seconds, operations = [], []
    for one in alone:
        start = time.perf_counter()
        model.answer(one)
        seconds.append(time.perf_counter() - start)
    for one in alone[:COUNTED]:
        with FlopCounterMode(display=False) as counter:
            model.answer(one)
        operations.append(counter.get_total_flops() / 2)
    lengths = [int(model.prompt(one).lengths[0]) for one in alone]
    return AnswerCost(
        input_vectors=sum(lengths) / users,
        multiply_adds=sum(operations) / len(operations),
        milliseconds=1000 * median(seconds[1:] or seconds),  # the first warms up
    )
