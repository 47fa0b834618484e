"""Which interactions of a history an answer rests on: leaving out one at a time, by how much is it less likely?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.schema import Doubles, History

if TYPE_CHECKING:
    from torch import Tensor

    from palate.model.model import PersonalizedModel

AT_ONCE = 32
"""Histories that are read and scored in one pass."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """An answer, its log-probability, and what that loses without each of the P interactions that were read.

    A positive influence speaks for the answer, a negative one against it.
    """

    answer: str
    log_probability: float
    influence: Doubles  # [P] oldest first


def attribute(
    model: PersonalizedModel,
    history: History,
    instruction: str | None = None,
    *,
    answer: str | None = None,
) -> Attribution:
    """Leave out, one at a time, each interaction that the model reads.

    Args:
        model: The model that answers.
        history: Oldest interaction first; ``model.visible`` says what is read of it. An interaction that is left
            out is not replaced by an older one.
        instruction: What is asked; what the model was trained to answer if not given.
        answer: The answer that is explained; the model's own if not given.

    Raises:
        DataError: The model does not know an item or a rating.
    """
    passes = (model.encode(some).split() for some in in_passes(left_out(model.visible(history))))
    return attribute_prompts(model, passes, instruction, answer)


def left_out(history: History) -> list[History]:
    """The whole history of P interactions, then the P that lack one each."""
    rows = range(len(history))
    return [history, *(history.take(row for row in rows if row != out) for out in rows)]


def in_passes(histories: Sequence[History]) -> Iterator[Sequence[History]]:
    """As many of them at a time as are read and scored in one pass."""
    for start in range(0, len(histories), AT_ONCE):
        yield histories[start : start + AT_ONCE]


def attribute_prompts(
    model: PersonalizedModel,
    passes: Iterable[Sequence[Tensor]],
    instruction: str | None = None,
    answer: str | None = None,
) -> Attribution:
    """The attribution from user prompts of what :func:`left_out` gives, in that order and several in each pass.

    A pass is asked for when the one before it has been scored, so what makes them can end the work.
    """
    scored = []
    for prompts in passes:
        if answer is None:
            answer = model.generate_from(prompts[:1], instruction)[0]
        scored.append(log_probabilities(model, prompts, answer, instruction))
    assert answer is not None, "the first pass holds the whole history"
    likely = np.concatenate(scored)
    return Attribution(answer, float(likely[0]), likely[0] - likely[1:])


def log_probabilities(
    model: PersonalizedModel, prompts: Sequence[Tensor], answer: str, instruction: str | None = None
) -> Doubles:
    """How likely an answer is for each of B user prompts, [B]."""
    scored = model.log_likelihood(prompts, [answer] * len(prompts), instruction)
    return np.asarray(scored.double().cpu().numpy(), dtype=np.float64)
