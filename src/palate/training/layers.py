"""The layers of transformers, and their compilation for training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from palate.errors import MismatchError

RECOMPILATIONS = 64
"""Limit of compiled versions of a layer's code: layers that differ in a number, as their index, have one each."""


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the elements of the outermost lists of modules: the layers of a transformer."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else layers_of(child)


def compile_layers(module: nn.Module, backend: str = "inductor") -> None:
    """Compile each layer for training mode, in place; in evaluation mode, with its many shapes, layers run as before.

    Layers share compiled code, so that this takes less time than compiling a whole model.

    Args:
        module: A transformer, or a module that contains some.
        backend: Backend of ``torch.compile``.

    Raises:
        MismatchError: The backend cannot compile on this machine.
    """
    _check_backend(backend)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILATIONS)
    for layer in layers_of(module):
        eager = layer.forward
        compiled = torch.compile(eager, backend=backend)
        layer.forward = partial(_forward, layer, compiled, eager)


def _forward(
    layer: nn.Module, compiled: Callable[..., Any], eager: Callable[..., Any], *inputs: Any, **named: Any
) -> Any:
    return (compiled if layer.training else eager)(*inputs, **named)


def _check_backend(backend: str) -> None:
    """Compile and run a function of one operation."""
    try:
        torch.compile(torch.neg, backend=backend)(torch.ones(2))
    except Exception as error:  # of whichever part of the compiler is missing
        reason = str(error).strip().splitlines()
        raise MismatchError(
            f"train.torch_compile: torch cannot compile with the backend {backend!r} on this machine "
            f"({reason[0] if reason else type(error).__name__}); set train.torch_compile=false"
        ) from error
