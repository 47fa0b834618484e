"""Cross-attention conditioning: a backbone's layers attend to the user's vectors, as in User-LLM (arXiv 2402.13598).

The vectors are not in the prompt: :func:`attending` sets them while the backbone runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.errors import MismatchError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Attended: TypeAlias = tuple[Tensor, Tensor]
"""User vectors [B, M, E], and their mask [B, M]."""
_ATTENDED: ContextVar[Attended | None] = ContextVar("attended", default=None)
LAYERS = ("encoder.block", "model.layers", "transformer.h", "gpt_neox.layers")
"""Attribute paths of the layers that read the prompt: T5's encoder, and decoder-only models of transformers."""


@contextmanager
def attending(user: Attended | None) -> Iterator[None]:
    """Set the user vectors that conditioned layers attend to during the block, in the order of the batch."""
    token = _ATTENDED.set(user)
    try:
        yield
    finally:
        _ATTENDED.reset(token)


class CrossAttention(nn.Module):
    """Gated cross-attention of a layer's output to the user's vectors, with the gate initialised to 0.

    A learned null vector is always attended to, so that the softmax is defined for users without vectors.

    Args:
        width: Size E of the layer's output and of the vectors.
        num_heads: Attention heads.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm, self.norm_user = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor, user: Tensor, mask: Tensor) -> Tensor:
        """Add the attention over user vectors [B, M, E] to the layer's output [B, N, E]."""
        read = user.to(self.out.weight.dtype)
        nothing = self.nothing.expand(len(read), 1, -1)
        source = self.norm_user(torch.cat([nothing, read], dim=1))  # [B, 1 + M, E]
        seen = functional.pad(mask.bool(), (1, 0), value=True)[:, None, None]  # [B, 1, 1, 1 + M]
        queries, keys, values = (
            one.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for one in (
                self.query(self.norm(hidden.to(read.dtype))),
                *self.key_value(source).chunk(2, dim=-1),
            )
        )
        found = functional.scaled_dot_product_attention(queries, keys, values, seen)
        added: Tensor = self.gate.tanh() * self.out(found.transpose(1, 2).flatten(2))
        return hidden + added.to(hidden.dtype)


class Conditioning(nn.Module):
    """Cross-attention after every n-th layer of a backbone, counted from the last.

    Args:
        backbone: The language model, whose layers are hooked.
        every: n.

    Raises:
        MismatchError: The layers are not found.
    """

    def __init__(self, backbone: PreTrainedModel, every: int = 1) -> None:
        super().__init__()
        chosen = list(_layers(backbone))[::-1][::every]
        width = int(backbone.get_input_embeddings().weight.shape[1])
        heads = int(getattr(backbone.config, "num_attention_heads", 1))
        heads = heads if width % heads == 0 else 1
        self.attentions = nn.ModuleList(CrossAttention(width, heads) for _ in chosen)
        for layer, attention in zip(chosen, self.attentions, strict=True):
            layer.register_forward_hook(partial(_attend, attention))


def _attend(attention: nn.Module, layer: nn.Module, given: Any, output: Any) -> Any:
    """Replace the hidden states of a layer's output, as its hook."""
    if (user := _ATTENDED.get()) is None:
        return output
    if isinstance(output, tuple):
        return (attention(output[0], *user), *output[1:])
    return attention(output, *user)


def _layers(backbone: PreTrainedModel) -> nn.ModuleList:
    for name in LAYERS:
        found: Any = backbone
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise MismatchError(
        f"the layers of a {type(backbone).__name__} are not known, so that no cross-attention can be added; set "
        "model.conditioning=prompt"
    )
