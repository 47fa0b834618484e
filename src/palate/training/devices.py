"""Where a training computes: on the device that is chosen, or on that of each process which a launcher started."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from palate.errors import MismatchError
from palate.system.device import find_device


def training_device(name: str | torch.device) -> torch.device:
    """Find where this process trains.

    Args:
        name: What :func:`palate.system.device.find_device` takes.

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
    """transformers' arguments for a process that computes on one device; theirs spread it over all GPUs."""

    chosen: torch.device | None = None

    @classmethod
    def on(cls, device: torch.device, **settings: Any) -> OneDevice:
        """Make the arguments of a process that computes on ``device``."""
        arguments = cls(use_cpu=device.type == "cpu", **settings)
        arguments.chosen = device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # accelerate computes on the current one
        return arguments

    @property
    def device(self) -> torch.device:
        """Where the process computes."""
        found = super().device  # which also sets up what several processes need
        return self.chosen or found

    @property
    def n_gpu(self) -> int:
        """One at most: with more, transformers would split batches among them."""
        return min(int(super().n_gpu), 1)
