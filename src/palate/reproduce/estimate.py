"""Estimates of a cell's operations and memory, from its sizes, and of its time, from a machine's speed.

Rough: a transformer's training runs at a share of the speed of plain matrix products, and that share differs from one
machine and model to the next.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.config.recipe import (
    ItemSettings,
    PretrainedT5Settings,
    RandomT5Settings,
    Recipe,
    ResamplerSettings,
    StreamingSettings,
    TextSettings,
    UEMSettings,
)
from palate.errors import RecipeError
from palate.items.blocks import build_block_table

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

CHARACTERS_A_TOKEN = 4.0
INSTRUCTION, TARGET, TASK_VOCABULARY = 12, 20, 500
"""Approximate numbers of tokens of instruction and target, and vocabulary size of a tokenizer trained on them."""
SHARE = 0.35
"""Speed of training on a CPU as a fraction of that of matrix products."""
BARE_GIB = 0.8
"""Memory in GiB of a process with its libraries and the item table."""
ITEM_VECTORS = {"all-MiniLM-L6-v2": 384}
"""Sizes of the vectors of item encoders, by the last part of their names; of all others, if they are not here, it is
that of Sentence-T5."""
SENTENCE_T5 = 768
BLOCK_TOKENS = {True: 320.0, False: 40.0}
"""Tokens of an item's block with and without description, as in the paper; used if the dataset is missing."""
ID_TOKENS = 5.0
"""Tokens of an item's id and rating in a prompt of P5."""
T5_SIZES = {
    "base": RandomT5Settings(d_model=768, d_ff=2048, num_heads=12, num_layers=12, vocab_size=32128),
    "large": RandomT5Settings(d_model=1024, d_ff=2816, num_heads=16, num_layers=24, vocab_size=32128),
}
"""T5 v1.1's, which its LM-adapted, Flan and LongT5 kin share, by the last part of their names."""
_SPEED_SIZE, _SPEED_SECONDS = 512, 0.2


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a cell."""

    input_vectors: float
    """Number of vectors that the backbone reads per window."""
    parameters: float
    multiply_adds: float
    """Multiply-adds of the full training."""
    memory_gib: float

    @property
    def operations(self) -> float:
        """Floating-point operations of the full training, two per multiply-add."""
        return 2 * self.multiply_adds

    def minutes(self, speed: float) -> float:
        """Estimate the training time in minutes for ``speed`` multiply-adds per second of matrix products."""
        return self.multiply_adds / (SHARE * speed) / 60


def item_vector_size(items: ItemSettings) -> int:
    """Return the size of an item vector, without loading the encoder."""
    config = Path(items.encoder) / "config.json"
    if config.is_file():
        content = json.loads(config.read_bytes())
        return int(content.get("hidden_size", content.get("d_model", SENTENCE_T5)))
    return ITEM_VECTORS.get(items.encoder.split("/")[-1].split(":")[-1], SENTENCE_T5)


def can_estimate(recipe: Recipe) -> bool:
    """Tell whether :func:`estimate` knows the backbone's sizes: only those of T5s."""
    return isinstance(recipe.model.backbone, RandomT5Settings | PretrainedT5Settings)


def estimate(recipe: Recipe, dataset: Dataset | None) -> Estimate:
    """Estimate the cost of training a recipe; ``train.max_minutes``, which may end it earlier, is ignored.

    Args:
        recipe: The recipe.
        dataset: The dataset; if None, windows are assumed to be full, and texts to be as long as the
            paper's.
    """
    backbone, vector = _sizes(recipe), item_vector_size(recipe.items)
    items, history = _window(recipe, dataset), 0.0
    settings = recipe.model.user_encoder
    encoder = 0.0  # parameters, each used once per item; 0 for registered kinds, whose size is unknown
    if recipe.generative is not None:
        history = items * ID_TOKENS
    elif isinstance(settings, TextSettings):
        tokens = BLOCK_TOKENS[settings.descriptions]
        if dataset is not None:
            tokens = _block_tokens(dataset, settings.descriptions)
        history = min(settings.max_length, items * tokens)
    elif isinstance(settings, UEMSettings):
        history = items
        width = settings.d_model or 3 * vector
        layer = width * (4 * settings.num_heads * settings.d_kv + 3 * settings.d_ff)
        encoder = (3 * vector * width if settings.d_model else 0) + settings.num_layers * layer
        encoder += width * backbone.d_model
    elif isinstance(settings, StreamingSettings | ResamplerSettings):
        history = settings.vectors
        encoder = settings.d_model * (3 * vector + 12 * settings.d_model * settings.num_layers)
    else:
        history = items
    task_prompt = recipe.model.task_prompt if recipe.generative is None else 0
    read = task_prompt + history + INSTRUCTION
    seen = read if backbone.attention == "full" else min(read, 3 * backbone.local_radius)
    width, layers = backbone.d_model, backbone.num_layers
    attention, feed_forward = 4 * width * width, 3 * width * backbone.d_ff
    head = width * backbone.vocab_size
    forward = (
        items * encoder
        + read * layers * (attention + feed_forward + 2 * width * seen)
        + TARGET * (layers * (2 * attention + feed_forward) + head)
        + read * layers * 2 * width * width  # keys and values of the decoder's cross-attention
    )
    parameters = encoder + layers * (3 * attention + 2 * feed_forward) + 2 * head
    train = recipe.train
    windows = train.max_steps * train.windows_per_step
    passes = 4 if train.gradient_checkpointing else 3
    return Estimate(
        input_vectors=read,
        parameters=parameters,
        multiply_adds=passes * windows * forward,
        memory_gib=BARE_GIB + _training_bytes(recipe, backbone, read, seen, items, parameters) / 2**30,
    )


def machine_speed(threads: int, device: torch.device) -> float:
    """Measure the multiply-adds per second of matrix products on a device; ``threads`` are the CPU's."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        matrix = torch.randn(_SPEED_SIZE, _SPEED_SIZE, device=device)
        (matrix @ matrix).sum().item()
        products, start = 0, time.perf_counter()
        while time.perf_counter() - start < _SPEED_SECONDS:
            (matrix @ matrix).sum().item()
            products += 1
        return products * _SPEED_SIZE**3 / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)


def _training_bytes(
    recipe: Recipe, backbone: RandomT5Settings, read: float, seen: float, items: float, parameters: float
) -> float:
    """Estimate the bytes of weights, gradients, optimizer moments (float32), and activations for the backward pass.

    Adam keeps two moments of each weight, Adafactor next to none. Activations as in Korthikanti et al. 2022, section
    4.1, for numbers of four bytes: in mixed precision the residual stream, the norms and the softmax keep these. With
    checkpoints each layer keeps its input only, and one layer at a time the rest.
    """
    train, vector = recipe.train, item_vector_size(recipe.items)
    layer = read * (68 * backbone.d_model + 10 * backbone.num_heads * seen)
    if train.gradient_checkpointing:
        kept = layer + backbone.num_layers * read * 4 * backbone.d_model
    else:
        kept = backbone.num_layers * layer
    settings = recipe.model.user_encoder
    if isinstance(settings, UEMSettings) and recipe.generative is None:
        width = settings.d_model or 3 * vector
        kept += items * (settings.num_layers * 68 * width + 12 * vector)
    logits = 3 * 4 * TARGET * backbone.vocab_size
    limits = recipe.evaluate
    asked = (
        max(1, min(limits.batch_size, limits.batch_tokens // read)) * layer
    )  # dev users, without a backward pass
    trained = train.shared_by(1).per_device_train_batch_size * (kept + logits)
    return (8 if train.optim == "adafactor" else 16) * parameters + max(trained, asked)


def _sizes(recipe: Recipe) -> RandomT5Settings:
    """Return the backbone's sizes, with the small vocabulary of a tokenizer trained on the task's texts only."""
    settings = recipe.model.backbone
    if isinstance(settings, RandomT5Settings):
        of_texts = isinstance(recipe.model.user_encoder, TextSettings) or recipe.generative is not None
        if settings.item_texts or of_texts:
            return settings
        return settings.model_copy(update={"vocab_size": min(settings.vocab_size, TASK_VOCABULARY)})
    if not isinstance(settings, PretrainedT5Settings):
        raise RecipeError(f"the cost of {settings.name!r} cannot be estimated, only that of a T5")
    size = T5_SIZES["large" if "large" in settings.name else "base"]
    if "long-t5" not in settings.name:
        return size
    return size.model_copy(update={"attention": "local"})


def _window(recipe: Recipe, dataset: Dataset | None) -> float:
    """Compute the mean size of training windows, which is drawn log-uniformly."""
    shortest, longest = recipe.windows.shortest, recipe.windows.longest
    sizes = np.exp(np.linspace(np.log(shortest), np.log(longest), 9))
    if dataset is None:
        return float(sizes.mean())
    lengths = dataset.interactions.lengths[dataset.users("train")]
    return float(np.mean([np.minimum(lengths, size).mean() for size in sizes]))


def _block_tokens(dataset: Dataset, descriptions: bool) -> float:
    table = build_block_table(dataset, descriptions)
    written = np.array([len(table.block(item, 0)) for item in range(len(table))])
    rated = np.bincount(dataset.interactions.item_index, minlength=len(table))
    return float((written * rated).sum() / max(rated.sum(), 1) / CHARACTERS_A_TOKEN)
