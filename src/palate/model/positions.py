"""Context length of a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.errors import MismatchError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def max_positions(config: PretrainedConfig) -> int | None:
    """Return the context length in tokens, including the answer; None if unlimited, as for T5."""
    most = getattr(config, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 and not config.is_encoder_decoder else None


def check_length(config: PretrainedConfig, prompt: int, answer: int) -> None:
    """Check that a prompt and its answer, in tokens, fit the context of a backbone.

    Raises:
        MismatchError: The sum exceeds the context length.
    """
    most = max_positions(config)
    if most is not None and prompt + answer > most:
        raise MismatchError(
            f"the prompt has {prompt:,} tokens and the answer up to {answer:,}, expected at most {most:,} together, "
            "the backbone's context length; ask a shorter question, or give fewer interactions"
        )
