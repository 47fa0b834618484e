"""Backbones: a T5 by hub name or folder, or one with random weights and a tokenizer built from the data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from palate.config import PretrainedT5Settings, RandomT5Settings
from palate.errors import MismatchError

PAD, END = "<pad>", "</s>"


@dataclass(frozen=True, eq=False)
class Backbone:
    """A language model and its tokenizer."""

    model: T5ForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase


def load_t5(settings: PretrainedT5Settings) -> Backbone:
    """A T5 v1.1, LM-adapted T5 or Flan-T5 with its own weights, from the hub or a folder."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.name, revision=settings.revision)
        model = T5ForConditionalGeneration.from_pretrained(settings.name, revision=settings.revision)
    except (OSError, ValueError) as error:
        raise MismatchError(
            f"the backbone {settings.name!r} cannot be loaded as a T5 ({_first_line(error)}); give a hub name that "
            "can be reached from here or a folder with config.json, weights and a tokenizer, "
            "or use model.backbone.kind=random-t5"
        ) from error
    return Backbone(model, tokenizer)


def random_t5(settings: RandomT5Settings, texts: Iterable[str]) -> Backbone:
    """A T5 v1.1 of the given sizes with random weights, and a tokenizer that is built from ``texts``."""
    tokenizer = build_tokenizer(texts, settings.vocabulary)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=settings.width,
        d_kv=settings.width // settings.heads,
        d_ff=settings.feed_forward,
        num_layers=settings.layers,
        num_heads=settings.heads,
        dropout_rate=settings.dropout,
        feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return Backbone(T5ForConditionalGeneration(config), tokenizer)


def build_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer in which frequent words are single tokens and no text is out of reach."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?[^\s,.;:?!]+|[,.;:?!]|\s+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
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


def generation_settings(most_new_tokens: int) -> dict[str, Any]:
    """Greedy decoding, whatever a checkpoint's own generation settings say."""
    return {"max_new_tokens": most_new_tokens, "do_sample": False, "num_beams": 1}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(". ") if str(error).strip() else type(error).__name__
