"""Backbones with random weights in published sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import processors
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from gpu_parts.bench import SEED, Bench
from palate.backbones.base import Backbone
from palate.backbones.causal import as_backbone
from palate.backbones.source import BackboneSource
from palate.backbones.t5 import build_tokenizer
from palate.config.recipe import CausalSettings
from palate.items.blocks import build_block_table
from palate.model.build import BuiltBackbone
from palate.model.wording import max_new_tokens
from palate.schema import Preferences

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_LABELS = 3
"""Maximum number of names in each half of an answer, as in the recipes."""


@dataclass(frozen=True)
class T5Sizes:
    """Sizes of a T5 v1.1 with equally many encoder and decoder layers."""

    width: int
    feed_forward: int
    heads: int
    head_size: int
    layers: int
    vocabulary: int
    activation: str
    tied: bool
    """Whether input and output embeddings are shared."""


BASE = T5Sizes(768, 2048, 12, 64, 12, 32_128, "gated-gelu", tied=False)
"""Flan-T5 base."""
SMALL = T5Sizes(512, 1024, 6, 64, 8, 32_128, "gated-gelu_pytorch_tanh", tied=True)
"""T5 v1.1 small with shared input and output embeddings: 60M parameters."""
TINY = T5Sizes(32, 64, 2, 16, 1, 512, "gated-gelu", tied=False)
"""Sizes for a smoke test."""

GEMMA: dict[str, dict[str, Any]] = {
    "Gemma 3 270M": {
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "sliding_window": 512,
        "vocab_size": 262_144,
    },
    "Gemma 3 1B": {
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "sliding_window": 512,
        "vocab_size": 262_144,
    },
    "Gemma 3 4B": {
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "sliding_window": 1024,
        "vocab_size": 262_208,
    },
}
"""Sizes of the text models; all have heads of size 256."""
TINY_GEMMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 64,
}


def texts_of(bench: Bench) -> Iterator[str]:
    """Yield texts that the tokenizer is trained on: questions, answers, and items as text with every rating."""
    labels = len(bench.dataset.categories)
    each, nothing = np.arange(labels)[:, None], np.full((labels, 1), -1)
    for preferences in (Preferences(each, each), Preferences(each, nothing), Preferences(nothing, each)):
        yield from bench.task.target_texts(preferences)
    yield from [bench.task.instruction] * labels
    table = build_block_table(bench.dataset, False)
    yield from (table.block(item, item % len(table.ratings)) for item in range(len(table)))


def random_t5(bench: Bench, sizes: T5Sizes, dropout: float) -> BuiltBackbone:
    """Build a T5 whose tokenizer is trained on the data, with an embedding of the published size."""
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer(texts_of(bench), sizes.vocabulary)
    config = T5Config(
        vocab_size=max(sizes.vocabulary, len(tokenizer)),
        d_model=sizes.width,
        d_kv=sizes.head_size,
        d_ff=sizes.feed_forward,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        dropout_rate=dropout,
        feed_forward_proj=sizes.activation,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    model = T5ForConditionalGeneration(config)
    if not sizes.tied:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() * sizes.width**-0.5)
        model.config.tie_word_embeddings = False
    return built(bench, Backbone(model, tokenizer), None)


def random_gemma(bench: Bench, sizes: dict[str, Any]) -> BuiltBackbone:
    """Build a frozen decoder with bfloat16 weights."""
    torch.manual_seed(SEED)
    tokenizer = decoder_tokenizer(bench)
    config = Gemma3TextConfig(
        **{"head_dim": 256, "query_pre_attn_scalar": 256, "vocab_size": len(tokenizer), **sizes},
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with bench.device:  # drawing billions of random numbers on a CPU core takes a minute
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for weight in model.parameters():
        weight.requires_grad_(False)
    settings = CausalSettings(name="random", train="frozen", dtype="bfloat16")
    source = BackboneSource(settings=settings, digest="random")
    return built(bench, as_backbone(model.cpu(), tokenizer), source)


def built(bench: Bench, backbone: Backbone, source: BackboneSource | None) -> BuiltBackbone:
    """Return the backbone in the form that :func:`palate.model.build.build_model` takes."""
    most = max_new_tokens(backbone, bench.task, MOST_LABELS, None)
    return BuiltBackbone(backbone, source, most, torch.get_rng_state())


def decoder_tokenizer(bench: Bench) -> PreTrainedTokenizerBase:
    """Load the decoder's tokenizer from its folder, or train one on the data."""
    if bench.tokenizer is not None:
        return AutoTokenizer.from_pretrained(str(bench.tokenizer), local_files_only=True)
    made = build_tokenizer(texts_of(bench), 8000)
    made.add_special_tokens({"bos_token": "<bos>"})
    backend = made.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", made.bos_token_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=made.pad_token,
        eos_token=made.eos_token,
        bos_token="<bos>",
        padding_side="left",
    )
