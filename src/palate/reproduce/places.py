"""Where cells are trained: how many at a time, in how many processes, each with its own GPU or share of threads."""

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
    """Places of concurrent trainings.

    A process never sees the GPU of another one: it could only be in its way.
    """

    jobs: int
    """Cells at a time."""
    processes: int
    """Processes that train a cell together."""
    device: str
    """Device that each process is told to use."""
    gpus: tuple[str, ...] = ()
    """GPUs of all processes, by what CUDA calls them; empty on a CPU, and where all are to use one named device."""

    @classmethod
    def of(cls, device: str, jobs: int, processes: int = 1) -> Places:
        """Find the places on this machine.

        Args:
            device: ``auto`` for a GPU for each process if there are any, else the CPU; or the device of all.
            jobs: Cells at a time.
            processes: Processes that train a cell together.

        Raises:
            MismatchError: There are fewer GPUs than processes, or one is named for several.
        """
        needed = jobs * processes
        if device != "auto" or not torch.cuda.is_available():
            if processes > 1 and torch.device("cpu" if device == "auto" else device).type != "cpu":
                raise MismatchError(
                    f"--device {device} cannot be that of {processes} processes; leave it out, and each takes a GPU "
                    "of its own"
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
        """CPU threads of each process: an even share."""
        return max(1, (os.cpu_count() or 1) // (self.jobs * self.processes))

    def check(self, settings: TrainSettings) -> None:
        """Check that the processes can share a training's batches; raises :class:`RecipeError` if not."""
        if self.processes > 1 and settings.global_batch_size is None:
            raise RecipeError(
                f"{self.processes} processes train a cell together only with train.global_batch_size, which they share"
            )
        try:
            settings.shared_by(self.processes)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def environments(self, job: int) -> Iterator[dict[str, str]]:
        """Yield the environment of each process of a job, by which accelerate knows the others."""
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
        """Return the environment of a job's only process, on its first GPU."""
        return {VISIBLE: self.gpus[job * self.processes]} if self.gpus else {}


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
