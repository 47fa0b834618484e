"""A randomly initialised decoder-only backbone, for data and machines without a pretrained one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import GPT2Config, GPT2LMHeadModel

from palate.backbones.causal import as_backbone
from palate.backbones.t5 import build_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palate.backbones.base import Backbone
    from palate.config.recipe import RandomCausalSettings

LONGEST = 256
"""Positions of the model: prompt, words and explanation."""


def random_causal(settings: RandomCausalSettings, texts: Iterable[str]) -> Backbone:
    """Build a random GPT-2 and a tokenizer trained on ``texts``; torch's seed decides the weights."""
    tokenizer = build_tokenizer(texts, settings.vocab_size, begins_words=True)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=LONGEST,
        n_embd=settings.d_model,
        n_layer=settings.num_layers,
        n_head=settings.num_heads,
        resid_pdrop=settings.dropout,
        embd_pdrop=settings.dropout,
        attn_pdrop=settings.dropout,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return as_backbone(GPT2LMHeadModel(config), tokenizer)
