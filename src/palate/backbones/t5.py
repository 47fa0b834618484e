"""T5 and LongT5 backbones, pretrained or with random weights and a tokenizer trained on the data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LongT5Config,
    LongT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from palate.backbones.base import Backbone, not_saved, telling
from palate.backbones.special_tokens import settle_special_tokens
from palate.config.recipe import PretrainedT5Settings, RandomT5Settings
from palate.errors import MismatchError

PAD, END = "<pad>", "</s>"
T5: TypeAlias = T5ForConditionalGeneration | LongT5ForConditionalGeneration
GATED_GELU = "gated-gelu_pytorch_tanh"
"""Feed-forward of T5 v1.1, "gated-gelu" in transformers; this name computes the same function in one operation, not
eight."""
MODELS: dict[str, tuple[type[T5Config | LongT5Config], type[T5]]] = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "longt5": (LongT5Config, LongT5ForConditionalGeneration),
}


def load_t5(settings: PretrainedT5Settings) -> Backbone:
    """Load a pretrained T5, T5 v1.1, LM-adapted T5, Flan-T5 or LongT5 in float32, from the hub or a folder.

    Raises:
        MismatchError: It cannot be loaded, or weights are missing.
    """
    with telling(lambda reason: _not_loadable(settings, reason)):
        tokenizer = AutoTokenizer.from_pretrained(settings.name, revision=settings.revision)
        kind = AutoConfig.from_pretrained(settings.name, revision=settings.revision).model_type
        if kind not in MODELS:
            raise _not_loadable(settings, f"it is a {kind!r}")
        model, found = MODELS[kind][1].from_pretrained(
            settings.name, revision=settings.revision, dtype=torch.float32, output_loading_info=True
        )
        # transformers initialises missing weights at random
        if absent := sorted(found["missing_keys"]):
            raise _not_loadable(settings, f"{len(absent)} of its weights are missing, the first {absent[0]}")
        model.config.tie_word_embeddings = model.lm_head.weight is model.shared.weight
        settle_special_tokens(model, tokenizer)
    return Backbone(model, tokenizer)


def rebuild_t5(folder: Path) -> Backbone:
    """Build a T5 backbone from a saved config and tokenizer, with random weights to be replaced.

    Raises:
        DataError: The config or the tokenizer cannot be read.
    """
    with telling(lambda reason: not_saved(folder, reason)):
        content = json.loads((folder / "config.json").read_bytes())
        config_class, model_class = MODELS[content.get("model_type", "t5")]
        model = model_class(config_class.from_dict(content))
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if not content.get("tie_word_embeddings", True):
        # the config class always ties them, but T5 v1.1 has a separate output layer
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    return Backbone(model, tokenizer)


def random_t5(
    settings: RandomT5Settings, texts: Iterable[str], begins_words: bool = False, **more: int
) -> Backbone:
    """Build a randomly initialised T5 v1.1 and a tokenizer trained on ``texts``.

    Args:
        settings: Sizes.
        texts: Texts for :func:`build_tokenizer`.
        begins_words: As for :func:`build_tokenizer`.
        more: Sizes of T5's configuration that the settings do not have.

    Returns:
        The backbone.
    """
    tokenizer = build_tokenizer(texts, settings.vocab_size, begins_words)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": settings.d_model,
        "d_kv": settings.d_model // settings.num_heads,
        "d_ff": settings.d_ff,
        "num_layers": settings.num_layers,
        "num_heads": settings.num_heads,
        "dropout_rate": settings.dropout,
        "feed_forward_proj": GATED_GELU,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
        **more,
    }
    if settings.attention == "full":
        return Backbone(T5ForConditionalGeneration(T5Config(**sizes)), tokenizer)
    attention = {"encoder_attention_type": settings.attention, "local_radius": settings.local_radius}
    return Backbone(LongT5ForConditionalGeneration(LongT5Config(**sizes, **attention)), tokenizer)


def build_tokenizer(
    texts: Iterable[str], vocabulary: int, begins_words: bool = False
) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer: frequent words are single tokens, and every text can be encoded.

    Args:
        texts: Texts to train it on.
        vocabulary: Maximum number of tokens.
        begins_words: Prepend a space to every text, so that a word has the same tokens at the start of a text as
            inside it.

    Returns:
        The tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    if begins_words:
        tokenizer.normalizer = normalizers.Prepend(" ")
    words = pre_tokenizers.Split(Regex(r" ?[^\s,.;:?!]+|[,.;:?!]|\s+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = (
        decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
        if begins_words
        else decoders.ByteLevel()
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, padding_side="right"
    )


def _not_loadable(settings: PretrainedT5Settings, reason: str) -> MismatchError:
    return MismatchError(
        f"the backbone {settings.name!r} cannot be loaded as a T5 ({reason}); give a hub name that can be reached "
        "from here or a folder with config.json, weights and a tokenizer, or use model.backbone.kind=random-t5"
    )
