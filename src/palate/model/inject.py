"""The one door into the language model: Z = [K; U_e; I_e], its mask and its labels. Nothing else concatenates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from palate.model.user_encoder import UserPrompt

IGNORED = -100
"""The label that the loss skips."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """The backbone's input, N = K + M + T vectors of size E, with what is padding at the right end."""

    embeddings: Tensor  # [B, N, E]
    mask: Tensor  # [B, N] 1 where the backbone may look; its integers, as Hugging Face models take them

    @property
    def lengths(self) -> Tensor:
        """Vectors that each user's prompt really has, [B]."""
        return self.mask.sum(dim=1)


def inject(task_prompt: Tensor, user: UserPrompt, instruction: Tensor, instruction_mask: Tensor) -> Prompt:
    """Join the task prompt K [K, E], the user prompts U_e [B, M, E] and the instructions I_e [B, T, E].

    ``instruction_mask`` is [B, T]. Gaps that shorter windows or instructions leave are closed by moving what is
    there to the left, in order: a user's prompt is the same alone and in a batch, positions included.
    """
    batch = len(user.embeddings)
    task = task_prompt.to(user.embeddings.dtype).expand(batch, -1, -1)
    embeddings = torch.cat([task, user.embeddings, instruction.to(task.dtype)], dim=1)
    mask = torch.cat([user.mask.new_ones(task.shape[:2]), user.mask, instruction_mask.bool()], dim=1)
    if not bool(mask.all()):
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
        longest = int(mask.sum(dim=1).max())
        order = order[:, :longest]
        mask = mask.gather(1, order)
        embeddings = embeddings.gather(1, order[..., None].expand(-1, -1, embeddings.shape[-1]))
        embeddings = embeddings * mask[..., None]
    return Prompt(embeddings, mask.long())


def mask_labels(token_ids: Tensor, mask: Tensor) -> Tensor:
    """Target token ids [B, N] as labels: what is padding is not scored."""
    return token_ids.masked_fill(mask == 0, IGNORED)
