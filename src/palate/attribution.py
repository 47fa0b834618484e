"""Which interactions of a history an answer rests on: leaving out one at a time, by how much is it less likely?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.schema import Doubles, History

if TYPE_CHECKING:
    from torch import Tensor

    from palate.model.personalized import PersonalizedModel

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
    whole: bool = False,
) -> Attribution:
    """Leave-one-out over what the model reads of a history: its most recent window, or all where ``whole``.

    The answer is the model's own unless another is given. A left-out interaction is not replaced by an older one.
    Raises :class:`DataError` for items and ratings that the model does not know.
    """
    read = history if whole else part(history, range(len(history))[-model.settings.window :])
    passes = (model.user_prompts(some, whole=True) for some in in_passes(left_out(read)))
    return attribute_prompts(model, passes, instruction, answer)


def part(history: History, rows: Sequence[int]) -> History:
    """These interactions of a history alone."""
    columns = (history.item_ids, history.ratings, history.timestamps)
    return History(history.user_id, *([column[row] for row in rows] for column in columns))  # type: ignore[arg-type]


def left_out(history: History) -> list[History]:
    """The whole history of P interactions, then the P that lack one each."""
    rows = range(len(history))
    return [history, *(part(history, [row for row in rows if row != out]) for out in rows)]


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
