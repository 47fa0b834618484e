"""Devices and number formats by name."""

from __future__ import annotations

import torch

from palate.errors import MismatchError


def find_device(name: str | torch.device = "auto") -> torch.device:
    """Find a device that is there.

    Args:
        name: "auto" for the first GPU if there is one, else the CPU; or a device as torch names it, like "cuda:1".

    Returns:
        The device, with its number where it is a GPU.

    Raises:
        MismatchError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=torch.device(name)).device  # "cuda" becomes "cuda:0"
    except (RuntimeError, AssertionError, ValueError) as error:  # torch raises AssertionError without CUDA
        reason = str(error).strip().splitlines()[0]
        raise MismatchError(
            f"device {str(name)!r} cannot be used ({reason}); expected 'auto', 'cpu', or 'cuda:0' and the like "
            "on a machine with a GPU"
        ) from error


def describe_device(device: torch.device) -> str:
    """Name a device as a person would: with the GPU's name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """Find a floating-point format by its name in torch.

    Raises:
        MismatchError: There is none of that name.
    """
    found = name if isinstance(name, torch.dtype) else getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise MismatchError(f"dtype {str(name)!r} is unknown; expected 'float32', 'bfloat16' or 'float16'")
    return found
