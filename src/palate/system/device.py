"""Devices and floating-point types by name."""

from __future__ import annotations

import torch

from palate.errors import MismatchError


def find_device(name: str | torch.device = "auto") -> torch.device:
    """Find an available device.

    Args:
        name: "auto" for the first GPU, or the CPU without one; or a torch device such as "cuda:1".

    Returns:
        The device; that of a GPU has an index.

    Raises:
        MismatchError: The device does not exist.
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
    """Format a device for display, with the GPU's name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """Return a floating-point dtype by its torch name.

    Raises:
        MismatchError: There is no such floating-point dtype.
    """
    found = name if isinstance(name, torch.dtype) else getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise MismatchError(f"dtype {str(name)!r} is unknown; expected 'float32', 'bfloat16' or 'float16'")
    return found
