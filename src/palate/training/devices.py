"""The device of a training process: the requested one, or the one that the launcher assigns."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from palate.errors import MismatchError
from palate.system.device import find_device


def training_device(name: str | torch.device) -> torch.device:
    """Find the device of this training process.

    Args:
        name: As for :func:`palate.system.device.find_device`.

    Raises:
        MismatchError: There is no such device, or one GPU is named for several processes.
    """
    device = find_device(name)
    processes = PartialState(cpu=device.type == "cpu")
    if processes.num_processes == 1:
        return device
    if name != "auto" and device.type != "cpu":
        raise MismatchError(
            f"device {str(name)!r} cannot be that of {processes.num_processes} processes; leave it out, and each "
            "takes a GPU of its own"
        )
    found: torch.device = processes.device
    return found


class OneDevice(TrainingArguments):  # type: ignore[misc]
    """TrainingArguments for one device; transformers' default would use all GPUs of a process."""

    chosen: torch.device | None = None

    @classmethod
    def on(cls, device: torch.device, **settings: Any) -> OneDevice:
        """Create the arguments of a process on ``device``."""
        arguments = cls(use_cpu=device.type == "cpu", **settings)
        arguments.chosen = device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # accelerate uses the current device
        return arguments

    @property
    def device(self) -> torch.device:
        """Device of the process."""
        found = super().device  # also initialises distributed training
        return self.chosen or found

    @property
    def n_gpu(self) -> int:
        """Number of GPUs, at most one: with more, transformers would split the batches."""
        return min(int(super().n_gpu), 1)
