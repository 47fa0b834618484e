"""Tokenization of names as they occur inside a text, after a space or a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

BEFORE = "and"
"""A word before a name: at the start of a text it may be tokenized differently."""


def spelled(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> list[list[int]]:
    """Tokenize L names as they stand in a text, after a space.

    Args:
        tokenizer: The tokenizer.
        names: The names.

    Returns:
        Token ids of each name, without special tokens.
    """
    return continued(tokenizer, [f" {name}" for name in names])


def continued(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize texts as they stand after a word; arguments and result are those of :func:`spelled`."""
    before = tokenizer(BEFORE, add_special_tokens=False)["input_ids"]
    whole = [f"{BEFORE}{text}" for text in texts]
    rows = tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"] if whole else []
    return [ids[len(before) :] for ids in rows]
