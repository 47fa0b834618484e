"""The history as text in the backbone's context: the paper's text baselines, which need no user encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from palate.encoders.base import UserPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack

    from palate.encoders.batch import WindowTensors
    from palate.items.blocks import BlockTable

AT_ONCE = 10_000
"""Texts tokenised per call."""


@dataclass(frozen=True, eq=False)
class TextBatch:
    """Token ids of the item blocks of B users, oldest first, right-padded to N tokens."""

    token_ids: Tensor  # [B, N]
    mask: Tensor  # [B, N] true at tokens, false at padding


class BlockCatalogue(nn.Module):
    """Tokenised item blocks on the model's device, looked up by index.

    A history is truncated to ``max_length`` tokens by dropping whole items, oldest first. If the newest item alone is
    longer, it is the only one and is truncated at the end.
    """

    tokens: Tensor  # [T] all pieces, one after the other
    offsets: Tensor  # [2·I + R + 1] start of each piece: I beginnings, I ends, R ratings

    def __init__(self, table: BlockTable, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        super().__init__()
        self.items, self.max_length = len(table), max_length
        pieces = _tokenised([*table.before, *table.after, *table.ratings], tokenizer)
        lengths = torch.tensor([0, *map(len, pieces)])
        flat = torch.tensor([token for piece in pieces for token in piece], dtype=torch.long)
        self.register_buffer("tokens", flat, persistent=False)
        self.register_buffer("offsets", lengths.cumsum(0), persistent=False)

    def forward(self, **windows: Unpack[WindowTensors]) -> TextBatch:
        """Look up the tokens of a batch."""
        pieces, lengths, kept = self._kept(windows)
        ids = self._joined(pieces[kept].flatten(), lengths[kept].flatten())
        total = (lengths.sum(dim=-1) * kept).sum(dim=1)  # [B]
        mask = windows["mask"]
        width = max(int(total.max()), 1) if len(total) else 1  # transformers' layers take no empty text
        stands = torch.arange(width, device=mask.device) < total[:, None]
        token_ids = ids.new_zeros(stands.shape)
        token_ids[stands] = ids
        return TextBatch(token_ids, stands)

    def lengths(self, **windows: Unpack[WindowTensors]) -> Tensor:
        """Count the tokens of each of B histories that are read, [B]."""
        _, lengths, kept = self._kept(windows)
        return (lengths.sum(dim=-1) * kept).sum(dim=1)

    def _kept(self, windows: WindowTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return each item's pieces and the numbers of their tokens that fit, both [B, P, 3], and a mask [B, P]."""
        rating, mask = windows["rating"], windows["mask"]
        index = windows["unique"][windows["item"]]  # [B, P]
        pieces = torch.stack([index, rating + 2 * self.items, index + self.items], dim=-1)  # [B, P, 3]
        ends = (self.offsets[pieces + 1] - self.offsets[pieces]).cumsum(dim=-1)
        lengths = ends.clamp(max=self.max_length).diff(dim=-1, prepend=torch.zeros_like(ends[..., :1]))
        block = lengths.sum(dim=-1) * mask  # [B, P]
        newer = block.flip(1).cumsum(dim=1).flip(1)  # tokens of this item and all later ones
        return pieces, lengths, mask & (newer <= self.max_length)

    def _joined(self, pieces: Tensor, lengths: Tensor) -> Tensor:
        """Concatenate the tokens of these pieces."""
        before = lengths.cumsum(0) - lengths
        place = torch.arange(int(lengths.sum()), device=lengths.device)
        shift = (self.offsets[pieces] - before).repeat_interleave(lengths)
        return self.tokens[place + shift]


class TextHistory(nn.Module):
    """The user prompt of a text history: the token embeddings, M = N."""

    def __init__(self, embeddings: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._embeddings = embeddings  # the backbone's, which are not this module's weights

    def forward(self, text: TextBatch) -> UserPrompt:
        """Embed each history: [B, N] tokens to [B, N, E]."""
        return UserPrompt(self._embeddings()(text.token_ids), text.mask)


def _tokenised(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    pieces: list[list[int]] = []
    for start in range(0, len(texts), AT_ONCE):
        some = list(texts[start : start + AT_ONCE])
        # an item's text must not end the user's turn or begin another
        pieces += tokenizer(some, add_special_tokens=False, verbose=False, split_special_tokens=True)[
            "input_ids"
        ]
    return pieces
