"""The one door into the language model: Z = [K; U_e; I_e], its mask and its labels. Nothing else concatenates.

An encoder-decoder reads Z and writes the target elsewhere. A decoder-only backbone reads it inside its frame,
[opening; K; U_e; I_e; closing], and the target follows: there padding stands at the left end, so that what comes
next stands in one column for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from palate.encoders.base import UserPrompt

IGNORED = -100
"""The label that the loss skips."""
_Part: TypeAlias = tuple[Tensor, Tensor | None]
"""Vectors [N, E] for everybody, or [B, N, E] with a mask [B, N]."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """The backbone's input, N = K + M + T vectors of size E (and a frame's), with what is padding at one end."""

    embeddings: Tensor  # [B, N, E]
    mask: Tensor  # [B, N] 1 where the backbone may look; its integers, as Hugging Face models take them

    @property
    def lengths(self) -> Tensor:
        """Vectors that each user's prompt really has, [B]."""
        return self.mask.sum(dim=1)

    @property
    def positions(self) -> Tensor:
        """Where each vector stands when padding is not counted, [B, N]; 0 for padding."""
        return (self.mask.cumsum(dim=1) - 1).clamp(min=0) * self.mask

    def to(self, dtype: torch.dtype) -> Prompt:
        """The same vectors in another number format."""
        return self if self.embeddings.dtype == dtype else Prompt(self.embeddings.to(dtype), self.mask)

    def followed_by(self, embeddings: Tensor, mask: Tensor) -> Prompt:
        """This prompt, padded at the left end, with B' vectors [B, N', E] after it where ``mask`` [B, N'] is true."""
        joined = torch.cat([self.embeddings, embeddings.to(self.embeddings.dtype)], dim=1)
        return Prompt(joined, torch.cat([self.mask, mask.long()], dim=1))


@dataclass(frozen=True, eq=False)
class Edges:
    """A frame's embeddings: what a decoder-only backbone reads before and after everything else."""

    opening: Tensor  # [O, E]
    closing: Tensor  # [C, E]


def inject(
    task_prompt: Tensor,
    user: UserPrompt,
    instruction: Tensor,
    instruction_mask: Tensor,
    edges: Edges | None = None,
    user_first: bool = False,
) -> Prompt:
    """Join the task prompt K [K, E], the user prompts U_e [B, M, E] and the instructions I_e [B, T, E].

    ``instruction_mask`` is [B, T]. With ``user_first`` K stands between U_e and I_e. Gaps that shorter windows or
    instructions leave are closed by moving what is there to the left, in order, or to the right with a frame's
    ``edges`` around it: a user's prompt is the same alone and in a batch, positions included.
    """
    before = _before(task_prompt, user, edges, user_first)
    after = _after(task_prompt, instruction, instruction_mask, edges, user_first)
    return _packed([*before, *after], user.embeddings, left_padded=edges is not None)


def begin(task_prompt: Tensor, user: UserPrompt, edges: Edges, user_first: bool = False) -> Prompt:
    """What :func:`inject` puts before an instruction, up to U_e: the same for whatever is asked."""
    return _packed(_before(task_prompt, user, edges, user_first), user.embeddings, left_padded=True)


def finish(
    beginning: Prompt,
    task_prompt: Tensor,
    instruction: Tensor,
    instruction_mask: Tensor,
    edges: Edges,
    user_first: bool = False,
) -> Prompt:
    """What :func:`inject` puts after what :func:`begin` made for B users, with their instructions [B, T, E]."""
    parts = _after(task_prompt, instruction, instruction_mask, edges, user_first)
    rest = _packed(parts, beginning.embeddings, left_padded=True)
    return beginning.followed_by(rest.embeddings, rest.mask)


def mask_labels(token_ids: Tensor, mask: Tensor) -> Tensor:
    """Target token ids [B, N] as labels: what is padding is not scored."""
    return token_ids.masked_fill(mask == 0, IGNORED)


def ended(token_ids: Tensor, mask: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Targets [B, N'], padded at the right end, with ``end`` after each, and their mask: both [B, N' + 1]."""
    room = token_ids.new_full((len(token_ids), 1), end)
    longer = torch.cat([token_ids, room], dim=1).scatter(1, mask.sum(dim=1, keepdim=True), end)
    return longer, torch.cat([mask.new_ones(room.shape), mask], dim=1)


def _before(task_prompt: Tensor, user: UserPrompt, edges: Edges | None, user_first: bool) -> list[_Part]:
    """[opening; K; U_e], K only where it stands there."""
    opening: list[_Part] = [] if edges is None else [(edges.opening, None)]
    task: list[_Part] = [] if user_first else [(task_prompt, None)]
    return [*opening, *task, (user.embeddings, user.mask)]


def _after(
    task_prompt: Tensor,
    instruction: Tensor,
    instruction_mask: Tensor,
    edges: Edges | None,
    user_first: bool,
) -> list[_Part]:
    """[K; I_e; closing], K only where it stands there."""
    task: list[_Part] = [(task_prompt, None)] if user_first else []
    closing: list[_Part] = [] if edges is None else [(edges.closing, None)]
    return [*task, (instruction, instruction_mask.bool()), *closing]


def _packed(parts: list[_Part], like: Tensor, left_padded: bool) -> Prompt:
    """Parts one after the other and without gaps."""
    pieces = [part.to(like.dtype).expand(len(like), -1, -1) for part, _ in parts]
    masks = [
        mask if mask is not None else torch.ones(piece.shape[:2], dtype=torch.bool, device=like.device)
        for piece, (_, mask) in zip(pieces, parts, strict=True)
    ]
    embeddings, mask = torch.cat(pieces, dim=1), torch.cat(masks, dim=1)
    if not bool(mask.all()):
        order = (mask if left_padded else ~mask).to(torch.uint8).argsort(dim=1, stable=True)
        longest = int(mask.sum(dim=1).max())
        order = order[:, -longest:] if left_padded else order[:, :longest]
        mask = mask.gather(1, order)
        embeddings = embeddings.gather(1, order[..., None].expand(-1, -1, embeddings.shape[-1]))
        embeddings = embeddings * mask[..., None]
    return Prompt(embeddings, mask.long())
