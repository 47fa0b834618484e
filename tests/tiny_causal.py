"""Tiny, randomly initialised decoder-only models in the hub's layout, and palate models over them."""

from functools import cache

import torch
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OlmoConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from palate.backbones.t5 import build_tokenizer
from palate.config.recipe import CausalSettings, StreamingSettings
from tiny import TEXTS, pretrained_model

STREAMING = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)

FAMILIES = {
    "llama": LlamaConfig,
    "qwen3": Qwen3Config,
    "gemma": GemmaConfig,
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
}
OTHER_FAMILIES = {
    "qwen2": Qwen2Config,
    "mistral": MistralConfig,
    "phi": PhiConfig,
    "phi3": Phi3Config,
    "olmo": OlmoConfig,
    "olmo2": Olmo2Config,
    "gpt2": GPT2Config,
}
"""Families that the conformance suite alone is tested on."""


@cache
def tokenizer_with_a_beginning():
    """Build a tokenizer like Llama's and Gemma's: texts begin with <s>, have no end token, and are left-padded."""
    made = build_tokenizer(TEXTS, 400)
    made.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<turn>", "</turn>"]})
    begin = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", made.bos_token_id)]
    )
    backend = made.backend_tokenizer
    backend.post_processor = begin
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        padding_side="left",
    )


def save_causal(folder, family="llama", seed=0, template=None, layers=2, head_dim=8):
    """Save a tiny random model in the hub's layout, with weights large enough for answers to differ."""
    torch.manual_seed(seed)
    tokenizer = tokenizer_with_a_beginning()
    sizes = {"num_key_value_heads": 2, "head_dim": head_dim, "num_attention_heads": 4, "hidden_size": 32}
    extra = {"sliding_window": 8, "sliding_window_pattern": 2} if family in ("gemma2", "gemma3") else {}
    config = {**FAMILIES, **OTHER_FAMILIES}[family](
        vocab_size=len(tokenizer),
        intermediate_size=64,
        num_hidden_layers=layers,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
        **extra,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def causal_model(
    dataset, folder, user_encoder=STREAMING, task_prompt=3, like_tokens=False, user_first=False, **backbone
):
    settings = CausalSettings(name=str(folder), **backbone)
    prompts = {"task_prompt": task_prompt, "like_tokens": like_tokens, "user_first": user_first}
    return pretrained_model(dataset, settings, user_encoder, **prompts)
