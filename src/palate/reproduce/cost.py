"""Costs of a system: input vectors, multiply-adds, time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Protocol

from torch.utils.flop_counter import FlopCounterMode

from palate.system.machine import peak_memory_gib
from palate.system.records import Frozen

if TYPE_CHECKING:
    from torch import Tensor, nn

    from palate.model.generation import TokenStreamer
    from palate.model.prompt import Prompt
    from palate.schema import Windows

TIMED = 10
"""Number of users whose answers are timed one by one."""
COUNTED = 4
"""Number of these users whose multiply-adds are counted."""


class TrainingCost(Frozen):
    """Cost of training one model."""

    steps: int
    """Number of optimizer steps."""
    windows: int
    """Number of training windows."""
    minutes: float
    """Wall time."""
    processor_minutes: float
    """Processor time of all threads, which depends less on the load of the machine than the wall time."""
    step_multiply_adds: float
    """Multiply-adds of the forward and backward pass of one batch through the full model."""
    memory_gib: float
    """Peak memory of the training process, the maximum over processes."""
    processes: int = 1
    """Number of processes of the training."""


class AnswerCost(Frozen):
    """Cost of an answer about a single user."""

    input_vectors: float
    """Mean number of vectors that the backbone reads: task prompt, history and instruction."""
    multiply_adds: float
    """Mean multiply-adds of an answer, from the window to the last token."""
    milliseconds: float
    """Median time of an answer."""
    memory_gib: float
    """Peak memory of a process that loaded the model and answered these users."""


class AnswersWindows(Protocol):
    """A trained model that answers about windows."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over its weights."""

    def prompt(self, windows: Windows) -> Prompt:
        """Assemble the prompts of B windows."""

    def answer(self, windows: Windows, *, streamer: TokenStreamer | None = None) -> list[str]:
        """Generate an answer for each of B windows."""


def answer_cost(model: AnswersWindows, windows: Windows) -> AnswerCost:
    """Measure answers for the first of B windows [B, P], one by one, in a process that has little else in memory."""
    users = min(len(windows), TIMED + 1)
    alone = [windows[user : user + 1] for user in range(users)]
    seconds, steps = [], []
    for one in alone:
        told = _Steps()
        start = time.perf_counter()
        model.answer(one, streamer=told)
        seconds.append(time.perf_counter() - start)
        steps.append(told.number)
    memory = peak_memory_gib()
    lengths = [int(model.prompt(one).lengths[0]) for one in alone]
    counted: dict[tuple[int, int], float] = {}
    """Multiply-adds by length of prompt and answer, which determine them; cached because counting is slow."""
    operations = []
    for one, size in list(zip(alone, zip(lengths, steps, strict=True), strict=True))[:COUNTED]:
        if size not in counted:
            with _nothing_learns(model), FlopCounterMode(display=False) as counter:
                model.answer(one)
            counted[size] = counter.get_total_flops() / 2
        operations.append(counted[size])
    return AnswerCost(
        input_vectors=sum(lengths) / users,
        multiply_adds=sum(operations) / len(operations),
        milliseconds=1000 * median(seconds[1:] or seconds),  # the first is a warm-up
        memory_gib=memory,
    )


class _Steps:
    """Counts the steps in which an answer is generated."""

    number = 0

    def put(self, value: Tensor) -> None:
        self.number += 1

    def end(self) -> None:
        pass


@contextmanager
def _nothing_learns(model: AnswersWindows) -> Iterator[None]:
    """Set ``requires_grad`` to False during the block; the FLOP counter needs no graph."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


def step_multiply_adds(model: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Count the multiply-adds of the forward and backward pass of a loss."""
    model.train()
    with FlopCounterMode(display=False) as counter:
        loss().backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    model.eval()
    return float(counter.get_total_flops() / 2)
