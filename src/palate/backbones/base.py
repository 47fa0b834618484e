"""Backbones: a language model, its tokenizer and, for decoder-only models, the frame around the input."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from palate.backbones.source import FRAME
from palate.errors import DataError, PalateError
from palate.system.files import write_bytes
from palate.system.records import read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_SAID = 240
"""Maximum number of characters quoted from a library's error message."""


@checked(frozen=True)
class Frame:
    """Tokens around the input of a decoder-only backbone, and after its answer."""

    opening: tuple[int, ...]
    """Before the input: the beginning-of-sequence token and, with a chat template, the start of the user's turn."""
    closing: tuple[int, ...]
    """After the instruction: a newline or, with a chat template, the end of the turn and the start of the model's."""
    end: int
    """End token of the answer."""

    def save(self, folder: Path) -> None:
        """Write ``frame.json`` to a backbone's folder."""
        write_bytes(folder / FRAME, TypeAdapter(Frame).dump_json(self, indent=2) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Frame:
        """Read the file of :meth:`save`; raises :class:`DataError` if it is missing or damaged."""
        again = "copy the model again"
        return read_record(Frame, folder / FRAME, f"the file is missing; {again}", again)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    frame: Frame | None = None
    """Frame of a decoder-only model; None for an encoder-decoder."""

    def save(self, folder: Path) -> None:
        """Save config, tokenizer and frame, without the weights."""
        self.model.config.save_pretrained(folder)
        save_tokenizer(self.tokenizer, folder)
        if self.frame is not None:
            self.frame.save(folder)

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the tokenizer that have a row in the embedding."""
        return vocabulary_of(self.model, self.tokenizer)

    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """Embed tokens [...] as the layers read them, in float32, [..., E].

        The module is called instead of indexing its weight, because some families (Gemma) scale the embeddings.
        """
        embedded: Tensor = self.model.get_input_embeddings()(token_ids)
        return embedded.float()

    def mean_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Average the token embeddings of each of C texts, [C, E]."""
        tokens = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return torch.stack([self.token_embeddings(torch.tensor(ids)).mean(dim=0) for ids in tokens])


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer as it was loaded, without the padding and truncation of the last call."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def vocabulary_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens with an embedding; some tokenizers have special tokens beyond its last row."""
    return min(len(tokenizer), int(model.get_input_embeddings().weight.shape[0]))


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Enable gradient checkpointing; transformers 5 renamed the method between releases."""
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def generation_settings(max_new_tokens: int) -> dict[str, Any]:
    """Return the arguments of greedy decoding, independent of the checkpoint's generation config."""
    return {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}


def not_saved(folder: Path, reason: str) -> DataError:
    """Create the error for a saved model's folder without a readable backbone."""
    return DataError(f"no backbone can be read here ({reason}); copy the model again", folder)


@contextmanager
def telling(say: Callable[[str], PalateError]) -> Iterator[None]:
    """Convert any loading error of a library by ``say``, which is given the reason.

    All exceptions are caught: for invalid files transformers raises many types, and tokenizers plain ``Exception``.
    """
    try:
        yield
    except (PalateError, MemoryError):
        raise
    except Exception as error:
        raise say(_in_one_line(error)) from error


def _in_one_line(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch uses terminal colours
    said = " ".join(plain.split()).rstrip(". ") or type(error).__name__
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]} …"
