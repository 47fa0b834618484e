"""Backbones: a language model, its tokenizer, and the frame that a decoder-only one reads its input in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked
from safetensors import SafetensorError

from palate.errors import DataError, faults
from palate.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FRAME = "frame.json"
NOT_LOADABLE = (OSError, ValueError, TypeError, RuntimeError, SafetensorError, StrictDataclassError)
"""What transformers raises for a folder or a name that is not what it should be."""


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
        content = read_bytes(folder / FRAME, "the file is missing; copy the model again")
        try:
            return TypeAdapter(Frame).validate_json(content)
        except ValidationError as error:
            raise DataError(f"{faults(error)}; copy the model again", folder / FRAME) from error


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


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Compute the activations of its layers twice; transformers 5 has renamed the method on its way."""
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def generation_settings(most_new_tokens: int) -> dict[str, Any]:
    """Greedy decoding, whatever a checkpoint's own generation settings say."""
    return {"max_new_tokens": most_new_tokens, "do_sample": False, "num_beams": 1}


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return str(error).strip().splitlines()[0].rstrip(". ") if str(error).strip() else type(error).__name__
