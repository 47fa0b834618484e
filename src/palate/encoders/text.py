"""The history as text in the backbone's own context: the paper's text baselines, in the place of a user encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from palate.encoders.base import UserPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from palate.items.blocks import BlockTable

AT_ONCE = 10_000
"""Texts that are tokenised in one call."""


@dataclass(frozen=True, eq=False)
class TextBatch:
    """The blocks of B users as token ids, oldest first, padded at the right end to N tokens."""

    token_ids: Tensor  # [B, N]
    mask: Tensor  # [B, N] true where a token stands


class BlockCatalogue(nn.Module):
    """The items' blocks beside the model: each is tokenised once, batches bring indices.

    A history is cut at ``max_length``: the oldest items are left out, and none is cut in two.
    """

    tokens: Tensor  # [T] all pieces, one after the other
    offsets: Tensor  # [2·I + R + 1] where each begins: I beginnings, I ends, R ratings

    def __init__(self, table: BlockTable, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        super().__init__()
        self.items, self.max_length = len(table), max_length
        pieces = _tokenised([*table.before, *table.after, *table.ratings], tokenizer)
        lengths = torch.tensor([0, *map(len, pieces)])
        flat = torch.tensor([token for piece in pieces for token in piece], dtype=torch.long)
        self.register_buffer("tokens", flat, persistent=False)
        self.register_buffer("offsets", lengths.cumsum(0), persistent=False)

    def forward(self, unique: Tensor, item: Tensor, rating: Tensor, mask: Tensor, time: Tensor) -> TextBatch:
        """Look a batch up, as :meth:`palate.encoders.batch.VectorCatalogue.forward` does."""
        index = unique[item]  # [B, P]
        pieces = torch.stack([index, rating + 2 * self.items, index + self.items], dim=-1)  # [B, P, 3]
        lengths = self.offsets[pieces + 1] - self.offsets[pieces]
        block = lengths.sum(dim=-1) * mask  # [B, P]
        newer = block.flip(1).cumsum(dim=1).flip(1)  # tokens of this item and all that came later
        kept = mask & (newer <= self.max_length)
        ids = self._joined(pieces[kept].flatten(), lengths[kept].flatten())
        total = (block * kept).sum(dim=1)  # [B]
        width = max(int(total.max()), 1) if len(total) else 1  # transformers' layers take no empty text
        stands = torch.arange(width, device=mask.device) < total[:, None]
        token_ids = ids.new_zeros(stands.shape)
        token_ids[stands] = ids
        return TextBatch(token_ids, stands)

    def _joined(self, pieces: Tensor, lengths: Tensor) -> Tensor:
        """The tokens of these pieces, one after the other."""
        before = lengths.cumsum(0) - lengths
        place = torch.arange(int(lengths.sum()), device=lengths.device)
        shift = (self.offsets[pieces] - before).repeat_interleave(lengths)
        return self.tokens[place + shift]


class TextHistory(nn.Module):
    """No user encoder: the tokens' own embeddings are the user prompt, M = N."""

    def __init__(self, embeddings: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._embeddings = embeddings  # the backbone's, which are not this module's weights

    def forward(self, text: TextBatch) -> UserPrompt:
        """Embed each history: [B, N] tokens become [B, N, E]."""
        return UserPrompt(self._embeddings()(text.token_ids), text.mask)


def _tokenised(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    pieces: list[list[int]] = []
    for start in range(0, len(texts), AT_ONCE):
        some = list(texts[start : start + AT_ONCE])
        pieces += tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
    return pieces
