"""Norms of soft prompts and token embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from palate.model.token_like import AT_ONCE

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel
    from palate.schema import Windows


@dataclass(frozen=True)
class Norms:
    """Mean norm of vectors, and mean distance from the average token embedding."""

    length: float
    from_mean: float


@torch.no_grad()
def prompt_norms(model: PersonalizedModel, windows: Windows) -> dict[str, Norms]:
    """Compute the mean norms of ``tokens``, ``task_prompt`` and, for B windows, ``user_prompt``."""
    tokens = torch.arange(model.vocab_size, device=model.device)
    embedded = torch.cat([model.embedded(some).float() for some in torch.split(tokens, AT_ONCE)])  # [V, E]
    user = model.user_prompt(windows)
    vectors = {
        "tokens": embedded,
        "task_prompt": model.soft_task_prompt,
        "user_prompt": user.embeddings[user.mask],
    }
    mean = embedded.mean(dim=0)
    return {
        name: Norms(float(some.norm(dim=-1).mean()), float((some - mean).norm(dim=-1).mean()))
        for name, some in vectors.items()
    }
