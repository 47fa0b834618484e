"""Thread-safe tokenization and padding of the texts of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class PaddedTokens(NamedTuple):
    """Tokens of B texts."""

    ids: Tensor  # [B, T]
    mask: Tensor  # [B, T] 1 where a token stands
    offsets: Tensor | None = (
        None  # [B, T, 2] characters that each token begins at and ends before; 0 for padding
    )


def padded_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], offsets: bool = False
) -> PaddedTokens:
    """Tokenize texts and pad them on the right.

    A fast tokenizer keeps ``padding=True`` of one call as its setting during it, so that a text which another thread
    tokenizes meanwhile is padded, too, or this one's are not. So the tokenizer is never told to pad.

    Args:
        tokenizer: The tokenizer, which other threads may use.
        texts: The texts, B of them.
        offsets: Also return where each token stands in its text; for a fast tokenizer.

    Returns:
        The tokens, [B, T].
    """
    read = tokenizer(list(texts), return_offsets_mapping=offsets)
    rows = [torch.tensor(ids, dtype=torch.long) for ids in read["input_ids"]]
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = pad_sequence([torch.ones_like(one) for one in rows], batch_first=True)
    if not offsets:
        return PaddedTokens(ids, mask)
    places = [torch.tensor(one, dtype=torch.long).reshape(-1, 2) for one in read["offset_mapping"]]
    return PaddedTokens(ids, mask, pad_sequence(places, batch_first=True))
