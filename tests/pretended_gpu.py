"""A simulated GPU: its tensors are computed on the CPU, but report the GPU's device and cannot mix with CPU tensors.

Code that forgets to move a tensor, or reads the numbers of a GPU tensor directly, fails as on a real GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class _Backend(_DummyBackendModule):
    """Backend interface that torch requires."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("pretended", _Backend())
GPU = torch.device("pretended:0")
torch.inference_mode = torch.no_grad  # in whose mode no tensor of one's own kind can be made
MAY_MIX = (torch.ops.aten.copy_, torch.ops.aten._to_copy, torch.ops.aten.index, torch.ops.aten.index_put_)
"""What takes tensors of two devices on a real GPU, too: copies, and indices on the CPU."""


class _OnGPU(torch.Tensor):
    """A tensor that reports the GPU as its device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "_OnGPU":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=GPU,
            requires_grad=False,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """Return the values, as for a tensor on any device."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Creates requested tensors on the simulated GPU."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: Any) -> Any:
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    on_gpu = [isinstance(one, _OnGPU) for one in given]
    wanted = kwargs.get("device")
    if any(on_gpu) and function.overloadpacket not in MAY_MIX:
        left = [one for one, is_there in zip(given, on_gpu, strict=True) if not is_there and one.dim()]
        if left:
            raise RuntimeError(f"{function}: {len(left)} tensors on the CPU beside those on the GPU")
    there = any(on_gpu) if wanted is None else torch.device(wanted).type == GPU.type
    if function.overloadpacket is torch.ops.aten.copy_:
        there = on_gpu[0]
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    bare = tree_map(lambda one: one.held if isinstance(one, _OnGPU) else one, (args, kwargs))
    result = function(*bare[0], **bare[1])
    if not there:
        return result
    known = {
        id(one.held): one for one in given if isinstance(one, _OnGPU)
    }  # what works in place gives itself

    def placed(one: Any) -> Any:
        if not isinstance(one, torch.Tensor):
            return one
        return known[id(one)] if id(one) in known else _OnGPU(one)

    return tree_map(placed, result)


def _register(name: str, function: Any) -> None:
    """Register kernels that torch calls below all modes: torch.tensor creates an empty tensor and copies into it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return _computed(function, args, kwargs)

    torch.library.impl(f"aten::{name}", "PrivateUse1")(run)


_register("empty_strided", torch.ops.aten.empty_strided.default)
_register("empty.memory_format", torch.ops.aten.empty.memory_format)


@torch.library.impl("aten::_copy_from", "PrivateUse1")
def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    held = [one.held if isinstance(one, _OnGPU) else one for one in (source, target)]
    held[1].copy_(held[0])
    return target


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Simulate a GPU during the block."""
    with _Mode():
        yield GPU
