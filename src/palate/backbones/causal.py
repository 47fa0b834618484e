"""Decoder-only backbones from the hub, a folder or a GGUF file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from palate.backbones.base import Backbone, Frame, not_saved, telling
from palate.backbones.gguf import GEMMA, converted_gguf, packaged_gemma
from palate.backbones.special_tokens import check_reads_forwards, settle_special_tokens
from palate.errors import MismatchError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from palate.config.recipe import CausalSettings

MARK = "palate-stands-here"
"""Placeholder for the user's text in a chat template."""


def load_causal(settings: CausalSettings) -> Backbone:
    """Load a pretrained decoder-only model from the hub, a folder or a GGUF file.

    Args:
        settings: Its name, revision, data type and chat template.

    Returns:
        The model, its tokenizer and its frame.

    Raises:
        MismatchError: It cannot be loaded, weights are missing, or it does not accept input embeddings.
    """
    place, revision = loadable_name(settings), settings.revision
    with telling(lambda reason: _not_loadable(settings, reason)):
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        model, found = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            revision=revision,
            dtype=getattr(torch, settings.dtype),
            trust_remote_code=False,
            output_loading_info=True,
        )
        # transformers initialises missing weights at random
        if absent := sorted(found["missing_keys"]):
            raise _not_loadable(settings, f"{len(absent)} of its weights are missing, the first {absent[0]}")
        if not tokenizer.is_fast:
            raise _not_loadable(settings, "its tokenizer has no tokenizer.json")
        takes = inspect.signature(model.forward).parameters
        if not {"inputs_embeds", "position_ids", "logits_to_keep"} <= takes.keys() or getattr(
            config, "hidden_size_per_layer_input", None
        ):
            raise _not_loadable(settings, f"a {config.model_type!r} does not answer from embeddings alone")
        settle_special_tokens(model, tokenizer)
        check_reads_forwards(model)
    return as_backbone(model, tokenizer, chat_frame(settings, tokenizer) if settings.chat else None)


def as_backbone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, frame: Frame | None = None
) -> Backbone:
    """Wrap a decoder-only model and its tokenizer as a backbone.

    Args:
        model: The model with its weights.
        tokenizer: Its tokenizer; the special tokens that it adds move to the frame.
        frame: Tokens around the input; if None, the tokenizer's first tokens, and a newline before the answer.

    Returns:
        The backbone.
    """
    frame = frame or _plain_frame(tokenizer)
    model.register_forward_pre_hook(_narrow_what_is_read, with_kwargs=True)
    return Backbone(model, _plain(tokenizer), frame)


def rebuild_causal(folder: Path) -> Backbone:
    """Build a decoder-only backbone from a saved config, tokenizer and frame, with random weights to be replaced.

    Raises:
        DataError: One of the files cannot be read.
    """
    frame = Frame.load(folder)
    with telling(lambda reason: not_saved(folder, reason)):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    return Backbone(model, _plain(tokenizer), frame)


def _narrow_what_is_read(
    model: PreTrainedModel, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Cast input embeddings to the dtype of the weights: prompts are assembled in float32, with gradients."""
    embeddings, dtype = named.get("inputs_embeds"), model.get_input_embeddings().weight.dtype
    if embeddings is not None and dtype != torch.float32:
        named = {**named, "inputs_embeds": embeddings.to(dtype)}
    return arguments, named


def loadable_name(settings: CausalSettings) -> str:
    """Return the hub name or the folder that transformers loads."""
    name = settings.name
    if name.startswith("packaged:"):
        if name != GEMMA:
            raise MismatchError(f"model.backbone.name: {name!r} is not packaged; {GEMMA} is")
        return str(packaged_gemma())
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise _not_loadable(settings, "no such file")
        return str(converted_gguf(path))
    return str(path) if path.is_dir() else name


def _plain(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Remove the special tokens that the tokenizer adds: the frame adds them once, around the whole input."""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B:1", special_tokens=[]
    )
    tokenizer.padding_side = "right"
    return tokenizer


def _plain_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Create a frame of the tokenizer's first tokens and a newline between instruction and answer."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    closing = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return Frame(tuple(whole[:start]), tuple(closing), tokenizer.eos_token_id)


def chat_frame(settings: CausalSettings, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Create a frame of the chat template's tokens around the user's turn and the token that ends the model's turn.

    Args:
        settings: Settings of the backbone, for the message of an error.
        tokenizer: Its tokenizer.

    Returns:
        The frame.

    Raises:
        MismatchError: The tokenizer has no chat template.
    """
    frame = template_frame(tokenizer)
    if frame is None:
        raise _not_loadable(settings, "its tokenizer has no chat template; set model.backbone.chat=false")
    return frame


def template_frame(tokenizer: PreTrainedTokenizerBase) -> Frame | None:
    """Create the frame of a tokenizer's chat template; None if it has no template."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": MARK}]
    asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    answered = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": MARK}], tokenize=False)
    opening, closing, after = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (*asked.split(MARK, 1), answered.rsplit(MARK, 1)[1])
    )
    return Frame(tuple(opening), tuple(closing), after[0] if after else tokenizer.eos_token_id)


def _not_loadable(settings: CausalSettings, reason: str) -> MismatchError:
    return MismatchError(
        f"the backbone {settings.name!r} cannot be loaded as a decoder-only model ({reason}); give a hub name that "
        f"can be reached from here, a folder with config.json, weights and a tokenizer, a file *.gguf, or {GEMMA}"
    )
