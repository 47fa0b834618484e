"""Prompt assembly: Z = [K; U_e; I_e], its mask and its labels. No other module concatenates prompts.

An encoder-decoder reads Z in its encoder and generates the target in its decoder. A decoder-only backbone reads Z
inside its frame, [opening; K; U_e; I_e; closing], followed by the target; prompts are left-padded, so that generation
starts in the same column for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from palate.backbones.conditioning import Attended
from palate.encoders.base import UserPrompt

IGNORED = -100
"""Label that the loss ignores."""
_Part: TypeAlias = tuple[Tensor, Tensor | None]
"""Vectors [N, E] shared by all users, or [B, N, E] with a mask [B, N]."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """Input of the backbone: N = K + M + T vectors of size E (plus the frame's), padded at one end."""

    embeddings: Tensor  # [B, N, E]
    mask: Tensor  # [B, N] attention mask of integers, 0 at padding, as Hugging Face models take it
    attended: Attended | None = None  # user vectors for cross-attention layers, in addition to the prompt

    @property
    def lengths(self) -> Tensor:
        """Length of each user's prompt without padding, [B]."""
        return self.mask.sum(dim=1)

    @property
    def positions(self) -> Tensor:
        """Position of each vector without counting padding, [B, N]; 0 for padding."""
        return (self.mask.cumsum(dim=1) - 1).clamp(min=0) * self.mask

    def __getitem__(self, rows: Tensor) -> Prompt:
        """Select users."""
        attended = self.attended and (self.attended[0][rows], self.attended[1][rows])
        return Prompt(self.embeddings[rows], self.mask[rows], attended)

    def to(self, dtype: torch.dtype) -> Prompt:
        """Convert the vectors to another dtype."""
        return self if self.embeddings.dtype == dtype else replace(self, embeddings=self.embeddings.to(dtype))

    def followed_by(self, embeddings: Tensor, mask: Tensor) -> Prompt:
        """Append vectors [B, N', E] with their mask [B, N'] to this left-padded prompt."""
        joined = torch.cat([self.embeddings, embeddings.to(self.embeddings.dtype)], dim=1)
        return replace(self, embeddings=joined, mask=torch.cat([self.mask, mask.long()], dim=1))


@dataclass(frozen=True, eq=False)
class Edges:
    """Embeddings of a decoder-only backbone's frame."""

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
    """Assemble Z = [K; U_e; I_e].

    Padding of shorter windows or instructions is moved to the end, or with ``edges`` to the front, keeping the order
    of the vectors: a user's prompt is the same alone and in a batch, including its positions.

    Args:
        task_prompt: K, [K, E].
        user: User prompts U_e, [B, M, E] with their mask.
        instruction: Instructions I_e, [B, T, E].
        instruction_mask: True at tokens, [B, T].
        edges: Frame of a decoder-only backbone; None for an encoder-decoder.
        user_first: Whether K is placed between U_e and I_e instead of before U_e.

    Returns:
        The prompts of B users.
    """
    before = _before(task_prompt, user, edges, user_first)
    after = _after(task_prompt, instruction, instruction_mask, edges, user_first)
    return _packed([*before, *after], user.embeddings, left_padded=edges is not None)


def inject_beside(
    task_prompt: Tensor,
    user: UserPrompt,
    instruction: Tensor,
    instruction_mask: Tensor,
    edges: Edges | None = None,
) -> Prompt:
    """Assemble [K; I_e] like :func:`inject`, with U_e as input of cross-attention layers instead of the prompt."""
    nobody = UserPrompt(user.embeddings[:, :0], user.mask[:, :0])
    prompt = inject(task_prompt, nobody, instruction, instruction_mask, edges)
    return replace(prompt, attended=(user.embeddings, user.mask))


def begin(task_prompt: Tensor, user: UserPrompt, edges: Edges, user_first: bool = False) -> Prompt:
    """Assemble the part of :func:`inject` before the instruction, a prefix shared by all instructions."""
    return _packed(_before(task_prompt, user, edges, user_first), user.embeddings, left_padded=True)


def finish(
    beginning: Prompt,
    task_prompt: Tensor,
    instruction: Tensor,
    instruction_mask: Tensor,
    edges: Edges,
    user_first: bool = False,
) -> Prompt:
    """Append the rest of :func:`inject`, with instructions [B, T, E], to the result of :func:`begin`."""
    parts = _after(task_prompt, instruction, instruction_mask, edges, user_first)
    rest = _packed(parts, beginning.embeddings, left_padded=True)
    return beginning.followed_by(rest.embeddings, rest.mask)


def mask_labels(token_ids: Tensor, mask: Tensor) -> Tensor:
    """Convert target token ids [B, N] to labels, with :data:`IGNORED` at padding."""
    return token_ids.masked_fill(mask == 0, IGNORED)


def ended(token_ids: Tensor, mask: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Append ``end`` to right-padded targets [B, N']; returns token ids and mask, both [B, N' + 1]."""
    room = token_ids.new_full((len(token_ids), 1), end)
    longer = torch.cat([token_ids, room], dim=1).scatter(1, mask.sum(dim=1, keepdim=True), end)
    return longer, torch.cat([mask.new_ones(room.shape), mask], dim=1)


def _before(task_prompt: Tensor, user: UserPrompt, edges: Edges | None, user_first: bool) -> list[_Part]:
    """Return the parts [opening; K; U_e], without K if ``user_first``."""
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
    """Return the parts [K; I_e; closing], with K only if ``user_first``."""
    task: list[_Part] = [(task_prompt, None)] if user_first else []
    closing: list[_Part] = [] if edges is None else [(edges.closing, None)]
    return [*task, (instruction, instruction_mask.bool()), *closing]


def _packed(parts: list[_Part], like: Tensor, left_padded: bool) -> Prompt:
    """Concatenate parts, and move padding to one end."""
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
