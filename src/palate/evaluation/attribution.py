"""Leave-one-out attribution of an answer to the interactions of a history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional

from palate.schema import Doubles, History
from palate.tasks.verbalizer import verbalizer_of

if TYPE_CHECKING:
    from palate.encoders.base import UserPrompt
    from palate.model.model import PersonalizedModel

AT_ONCE = 32
"""Maximum number of histories per forward pass."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """An answer, its log-probability, and the influence of each of the P interactions read.

    The influence is the decrease of the log-probability without the interaction: positive if it supports the answer.
    Where the user encoder decides which categories are named, the language model only says them, and would be almost
    sure of other ones as soon as the decision is another: the log-probability is then that of the named categories by
    the user encoder's chances, which move with each interaction.
    """

    answer: str
    log_probability: float
    influence: Doubles  # [P] oldest first
    by: Literal["answer", "chances"] = "answer"
    """What has the log-probability: the answer's tokens, or the categories that it names."""


def attribute(
    model: PersonalizedModel,
    history: History,
    instruction: str | None = None,
    *,
    answer: str | None = None,
) -> Attribution:
    """Compute the influence of each interaction on an answer, by leaving it out.

    Args:
        model: Model to explain.
        history: Oldest interaction first; ``model.visible`` shows which part is read. A left-out interaction is not
            replaced by an older one.
        instruction: Question to answer; the trained one if None.
        answer: Answer to explain; the model's own if None.

    Returns:
        The attribution.

    Raises:
        DataError: An item or a rating is unknown to the model.
    """
    passes = (model.encode(some) for some in in_passes(left_out(model.visible(history))))
    return attribute_prompts(model, passes, instruction, answer)


def left_out(history: History) -> list[History]:
    """Return the history of P interactions, then the P histories with one interaction left out."""
    rows = range(len(history))
    return [history, *(history.take(row for row in rows if row != out) for out in rows)]


def in_passes(histories: Sequence[History], most: int | None = None) -> Iterator[Sequence[History]]:
    """Split histories into forward passes of at most ``most`` and at most :data:`AT_ONCE`."""
    size = min(AT_ONCE, most or AT_ONCE)
    for start in range(0, len(histories), size):
        yield histories[start : start + size]


def attribute_prompts(
    model: PersonalizedModel,
    passes: Iterable[UserPrompt],
    instruction: str | None = None,
    answer: str | None = None,
) -> Attribution:
    """Compute an attribution from the user prompts of :func:`left_out`, in passes.

    The next pass is requested only after the last one is scored, so the iterable can cancel the computation.
    """
    decides = model.has_view and instruction in (None, model.settings.instruction)
    scored = []
    for prompts in passes:
        if answer is None:
            answer = model.generate_from(prompts.each()[0], instruction)[0]
        scored.append(
            log_chances(model, prompts, answer)
            if decides
            else log_probabilities(model, prompts, answer, instruction)
        )
    assert answer is not None, "the first pass holds the whole history"
    likely = np.concatenate(scored)
    return Attribution(answer, float(likely[0]), likely[0] - likely[1:], "chances" if decides else "answer")


def log_chances(model: PersonalizedModel, prompts: UserPrompt, answer: str) -> Doubles:
    """Compute the log-probability of the categories that an answer names, by the chances of each of B users, [B].

    They are taken as independent. Where none is named, it is that no category is liked or disliked.
    """
    settings = model.settings
    assert prompts.category_logits is not None, "the user encoder has a view"
    logits = prompts.category_logits.double()  # [B, L, 2]
    read = verbalizer_of(settings.categories, settings.category_field, settings.task.max_labels).read(
        [answer]
    )
    named = torch.zeros(logits.shape[1:], dtype=torch.bool)  # [L, 2]
    for half, labels in enumerate((read.liked[0], read.disliked[0])):
        named[[label for label in labels.tolist() if label >= 0], half] = True
    said = logits[:, named] if named.any() else -logits.flatten(1)
    return np.asarray(functional.logsigmoid(said).sum(dim=1).cpu().numpy(), dtype=np.float64)


def log_probabilities(
    model: PersonalizedModel, prompts: UserPrompt, answer: str, instruction: str | None = None
) -> Doubles:
    """Compute the log-probability of an answer for each of B user prompts, [B]."""
    scored = model.log_likelihood(prompts, [answer] * len(prompts.mask), instruction)
    return np.asarray(scored.double().cpu().numpy(), dtype=np.float64)
