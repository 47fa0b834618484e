"""How many tokens a backbone has positions for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.errors import MismatchError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def max_positions(config: PretrainedConfig) -> int | None:
    """How many tokens a backbone can read, with what it writes; None where its positions have no end, as T5's."""
    most = getattr(config, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 and not config.is_encoder_decoder else None


def check_length(config: PretrainedConfig, prompt: int, answer: int) -> None:
    """Check that a prompt and its answer, in tokens, fit a backbone.

    Raises:
        MismatchError: With the numbers, when they do not.
    """
    most = max_positions(config)
    if most is not None and prompt + answer > most:
        raise MismatchError(
            f"the prompt has {prompt:,} tokens and the answer up to {answer:,}; the backbone reads at most {most:,} "
            "together: ask a shorter question, or show fewer interactions"
        )
