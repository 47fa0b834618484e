"""Whole-word indices: all tokens of a word share one, so that the pieces of an id belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\S+")


def whole_word_indices(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Compute the index of the word that each token belongs to.

    Args:
        text: A text; words are what blanks separate.
        spans: The characters of each of its tokens, of which the last tells the word; empty for special tokens.

    Returns:
        The word of each token, from 1; 0 for special tokens and blanks.
    """
    word_of = [0] * len(text)
    for number, found in enumerate(_WORD.finditer(text), 1):
        word_of[found.start() : found.end()] = [number] * (found.end() - found.start())
    return [word_of[stop - 1] if stop > start else 0 for start, stop in spans]
