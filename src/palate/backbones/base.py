"""Backbones: a language model, its tokenizer, and the frame that a decoder-only one reads its input in."""

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
"""Characters of what a library says that an error repeats."""


@checked(frozen=True)
class Frame:
    """The tokens that a decoder-only backbone reads around its input and writes after an answer."""

    opening: tuple[int, ...]
    """Before everything: the beginning of a text and, with a chat template, of the user's turn."""
    closing: tuple[int, ...]
    """After the instruction: the line's end or, with a chat template, the turn's end and the model's beginning."""
    end: int
    """After the answer."""

    def save(self, folder: Path) -> None:
        """Write ``frame.json`` into a backbone's folder."""
        write_bytes(folder / FRAME, TypeAdapter(Frame).dump_json(self, indent=2) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Frame:
        """Read what :meth:`save` wrote; raises :class:`DataError` when it is not whole."""
        again = "copy the model again"
        return read_record(Frame, folder / FRAME, f"the file is missing; {again}", again)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    frame: Frame | None = None
    """Of a decoder-only one; an encoder-decoder has none."""

    def save(self, folder: Path) -> None:
        """Write config, tokenizer and frame, without the weights."""
        self.model.config.save_pretrained(folder)
        save_tokenizer(self.tokenizer, folder)
        if self.frame is not None:
            self.frame.save(folder)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are: what the tokenizer knows and the embedding has a row for."""
        return vocabulary_of(self.model, self.tokenizer)

    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """What the layers are fed for tokens [...], in float32: [..., E].

        The module is asked and not its weight, which some families (Gemma) scale on the way.
        """
        embedded: Tensor = self.model.get_input_embeddings()(token_ids)
        return embedded.float()

    def mean_embeddings(self, texts: Sequence[str]) -> Tensor:
        """The mean token embedding of each of C texts, [C, E]."""
        tokens = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return torch.stack([self.token_embeddings(torch.tensor(ids)).mean(dim=0) for ids in tokens])


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer as it was loaded: how the last texts were padded stays in it, and is no part of it."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def vocabulary_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens both know; some tokenizers have special ones that no text holds, behind the embedding's end."""
    return min(len(tokenizer), int(model.get_input_embeddings().weight.shape[0]))


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Compute the activations of its layers twice; transformers 5 has renamed the method on its way."""
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def generation_settings(max_new_tokens: int) -> dict[str, Any]:
    """Greedy decoding, whatever a checkpoint's own generation settings say."""
    return {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}


def not_saved(folder: Path, reason: str) -> DataError:
    """The error for a saved model's folder that holds no backbone."""
    return DataError(f"no backbone can be read here ({reason}); copy the model again", folder)


@contextmanager
def telling(say: Callable[[str], PalateError]) -> Iterator[None]:
    """Raise what ``say`` makes of the reason when a library cannot load what it was given.

    Everything is caught: for files that are not what they should be transformers raises many kinds of errors, and its
    tokenizers plain exceptions.
    """
    try:
        yield
    except (PalateError, MemoryError):
        raise
    except Exception as error:
        raise say(_in_one_line(error)) from error


def _in_one_line(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch prints in bold
    said = " ".join(plain.split()).rstrip(". ") or type(error).__name__
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]} …"
