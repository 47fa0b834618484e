"""Decoder-only backbones by hub name, folder or GGUF file."""

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
"""Stands for a text that a chat template is put around."""


def load_causal(settings: CausalSettings) -> Backbone:
    """A decoder-only model with its own weights, from the hub, a folder or a GGUF file.

    Raises :class:`MismatchError` when it cannot be had, when weights are missing, or when it reads no embeddings.
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
        # transformers fills what is not there with random numbers
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
    return as_backbone(model, tokenizer, _chat_frame(settings, tokenizer) if settings.chat else None)


def as_backbone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, frame: Frame | None = None
) -> Backbone:
    """Make a decoder-only model and its tokenizer a backbone.

    Args:
        model: Whose weights are there already.
        tokenizer: Its own; what it adds to a text goes into the frame and is taken from the tokenizer.
        frame: Around the input; the tokenizer's own beginning and a line's end before the answer if not given.
    """
    frame = frame or _plain_frame(tokenizer)
    model.register_forward_pre_hook(_narrow_what_is_read, with_kwargs=True)
    return Backbone(model, _plain(tokenizer), frame)


def rebuild_causal(folder: Path) -> Backbone:
    """The backbone whose config, tokenizer and frame lie in ``folder``, with random weights to be replaced.

    Raises :class:`DataError` when one of them cannot be read.
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
    """Prompts are joined in float32, with their gradients; weights in bfloat16 read them in bfloat16."""
    embeddings, dtype = named.get("inputs_embeds"), model.get_input_embeddings().weight.dtype
    if embeddings is not None and dtype != torch.float32:
        named = {**named, "inputs_embeds": embeddings.to(dtype)}
    return arguments, named


def loadable_name(settings: CausalSettings) -> str:
    """Where transformers finds it: a hub name or a folder."""
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
    """The tokenizer without tokens of its own: the frame adds them, once and around everything."""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B:1", special_tokens=[]
    )
    tokenizer.padding_side = "right"
    return tokenizer


def _plain_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The tokenizer's own beginning, and a line's end between the instruction and the answer."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    closing = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return Frame(tuple(whole[:start]), tuple(closing), tokenizer.eos_token_id)


def _chat_frame(settings: CausalSettings, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The chat template's tokens around the user's turn, and the one that ends the model's."""
    if not tokenizer.chat_template:
        raise _not_loadable(settings, "its tokenizer has no chat template; set model.backbone.chat=false")
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
