"""Which interactions of a history an answer rests on: leaving out one at a time, by how much is it less likely?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.schema import Doubles, History

if TYPE_CHECKING:
    from torch import Tensor

    from palate.model.personalized import PersonalizedModel, Table

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
    return attribute_prompts(model, user_prompts(model, left_out(read)), instruction, answer)


def part(history: History, rows: Sequence[int]) -> History:
    """These interactions of a history alone."""
    columns = (history.item_ids, history.ratings, history.timestamps)
    return History(history.user_id, *([column[row] for row in rows] for column in columns))  # type: ignore[arg-type]


def left_out(history: History) -> list[History]:
    """The whole history of P interactions, then the P that lack one each."""
    rows = range(len(history))
    return [history, *(part(history, [row for row in rows if row != out]) for out in rows)]


@torch.inference_mode()
def user_prompts(
    model: PersonalizedModel, histories: Sequence[History], table: Table | None = None
) -> list[Tensor]:
    """The user prompt [M, E] of each history, however long, for :meth:`PersonalizedModel.generate_from`."""
    found: list[Tensor] = []
    for start in range(0, len(histories), AT_ONCE):
        user = model.user_encoder(model.events(histories[start : start + AT_ONCE], table))
        found += [prompt[mask] for prompt, mask in zip(user.embeddings, user.mask, strict=True)]
    return found


def attribute_prompts(
    model: PersonalizedModel,
    prompts: Sequence[Tensor],
    instruction: str | None = None,
    answer: str | None = None,
) -> Attribution:
    """The attribution from user prompts of what :func:`left_out` gives, in that order."""
    if answer is None:
        answer = model.generate_from(prompts[:1], instruction)[0]
    likely = log_probabilities(model, prompts, answer, instruction)
    return Attribution(answer, float(likely[0]), likely[0] - likely[1:])


def log_probabilities(
    model: PersonalizedModel, prompts: Sequence[Tensor], answer: str, instruction: str | None = None
) -> Doubles:
    """How likely an answer is for each of B user prompts, [B]."""
    parts = [prompts[start : start + AT_ONCE] for start in range(0, len(prompts), AT_ONCE)]
    scored = [model.log_likelihood(some, [answer] * len(some), instruction).double().cpu() for some in parts]
    return np.asarray(torch.cat(scored).numpy(), dtype=np.float64)
