"""Allocation of cells to devices: number of concurrent cells and processes, each with its own GPU or CPU threads."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from palate.config.recipe import TrainSettings
from palate.errors import MismatchError, RecipeError

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Places:
    """Devices and processes of concurrent trainings.

    The GPU of one process is not visible to another.
    """

    jobs: int
    """Number of concurrent cells."""
    processes: int
    """Number of processes per cell."""
    device: str
    """Device argument of each process."""
    gpus: tuple[str, ...] = ()
    """CUDA identifiers of the GPUs of all processes; empty on a CPU, and if all use one given device."""

    @classmethod
    def of(cls, device: str, jobs: int, processes: int = 1) -> Places:
        """Allocate the devices of this machine.

        Args:
            device: ``auto`` for one GPU per process if there are any, otherwise the CPU; or one device for all.
            jobs: Number of concurrent cells.
            processes: Number of processes per cell.

        Raises:
            MismatchError: There are fewer GPUs than processes, or one is named for several.
        """
        needed = jobs * processes
        if device != "auto" or not torch.cuda.is_available():
            if processes > 1 and torch.device("cpu" if device == "auto" else device).type != "cpu":
                raise MismatchError(
                    f"--device {device} cannot be used by {processes} processes; leave it out to give each process "
                    "its own GPU"
                )
            return cls(jobs, processes, device)
        visible = [one.strip() for one in os.environ.get(VISIBLE, "").split(",") if one.strip()]
        gpus = visible or [str(number) for number in range(torch.cuda.device_count())]
        if len(gpus) < needed:
            raise MismatchError(
                f"{jobs} cells at a time in {processes} processes each need {needed} GPUs, and there are {len(gpus)}; "
                "take fewer --jobs or --processes, or name one device for all with --device"
            )
        return cls(jobs, processes, device, tuple(gpus[:needed]))

    @property
    def threads(self) -> int:
        """CPU threads of each process, divided evenly."""
        return max(1, (os.cpu_count() or 1) // (self.jobs * self.processes))

    def check(self, settings: TrainSettings) -> None:
        """Check that the processes can share a training's batches; raises :class:`RecipeError` if not."""
        if self.processes > 1 and settings.global_batch_size is None:
            raise RecipeError(
                f"{self.processes} processes can train one cell only with train.global_batch_size, which is divided "
                "among them"
            )
        try:
            settings.shared_by(self.processes)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def environments(self, job: int) -> Iterator[dict[str, str]]:
        """Yield the environment variables of each process of a job, for accelerate's process group."""
        port = str(_free_port()) if self.processes > 1 else ""
        for rank in range(self.processes):
            first = job * self.processes
            found = {VISIBLE: ",".join(self.gpus[first : first + self.processes])} if self.gpus else {}
            if self.processes > 1:
                found |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(self.processes),
                    "LOCAL_WORLD_SIZE": str(self.processes),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                }
            yield found

    def alone(self, job: int) -> dict[str, str]:
        """Return the environment variables of a job with a single process, on its first GPU."""
        return {VISIBLE: self.gpus[job * self.processes]} if self.gpus else {}


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
