"""Timing and profiling of training steps by palate's trainer."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import Dataset as TorchDataset
from transformers import TrainerCallback, TrainingArguments

from gpu_parts.bench import GIB, SEED, Bench, Found
from palate.config.recipe import Recipe
from palate.evaluation.dev import DevScore
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.trainer import PersonalizedTrainer

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

TOP = 15
"""Maximum number of operations in a profile."""


class Drawn(TorchDataset[dict[str, Any]]):
    """Training batches, with the time to draw them."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches, self.seconds = batches, 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = time.perf_counter()
        batch = self.batches[index]
        self.seconds += time.perf_counter() - start
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["batches"], name)


class Same(Drawn):
    """A single batch that is repeated, already on the device."""

    def __init__(self, batches: TrainingBatches, device: torch.device) -> None:
        super().__init__(batches)
        self.batch = on(batches[0], device)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.batch)


def on(value: Any, device: torch.device) -> Any:
    """Move all tensors of a batch to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: on(one, device) for name, one in value.items()}
    return [on(one, device) for one in value] if isinstance(value, list) else value


def batches_of(bench: Bench, recipe: Recipe, model: PersonalizedModel) -> TrainingBatches:
    """Return the recipe's batches."""
    return TrainingBatches(recipe, bench.dataset, bench.task, model, Clock(recipe.train))


class Watch(TrainerCallback):
    """Times steps after a warm-up, then profiles some more and stops the training."""

    def __init__(
        self, bench: Bench, drawn: Drawn, warmup: int, steps: int, seconds: float, profiled: int
    ) -> None:
        self.bench, self.drawn = bench, drawn
        self.warmup, self.steps, self.profiled = warmup, steps, profiled
        self.seconds, self.deadline = seconds, float("inf")
        self.started = self.ended = self.drawing_s = self.processor_s = 0.0
        self.first, self.last = 0, -1
        self.warm_peak_gib = self.peak_gib = 0.0
        self.record: profile | None = None
        self.losses: deque[Tensor] = deque(maxlen=50)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance from warm-up to timing to profiling."""
        step = state.global_step
        if self.record is not None:
            if step - self.last >= self.profiled:
                self.bench.synchronize()
                self.record.stop()
                control.should_training_stop = True
        elif step == self.warmup:
            self.bench.synchronize()
            self.warm_peak_gib = self._peak()
            if self.bench.gpu:
                torch.cuda.reset_peak_memory_stats()
            self.first, self.drawn.seconds = step, 0.0
            self.processor_s, self.started = time.process_time(), time.perf_counter()
            self.deadline = self.started + self.seconds
        elif step - self.warmup >= self.steps or time.perf_counter() > self.deadline:
            self.bench.synchronize()
            self.ended, self.last = time.perf_counter(), step
            self.processor_s = time.process_time() - self.processor_s
            self.drawing_s, self.peak_gib = self.drawn.seconds, self._peak()
            if self.profiled:
                kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.bench.gpu else [])]
                self.record = profile(activities=kinds)
                self.record.start()
            else:
                control.should_training_stop = True

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / GIB if self.bench.gpu else 0.0

    def figures(self) -> Found:
        """Return the timings."""
        taken = self.last - self.first
        if taken <= 0:
            raise RuntimeError("the training ended before a step was timed")
        seconds = self.ended - self.started
        return {
            "steps": taken,
            "warmup_steps": self.warmup,
            "step_ms": 1000 * seconds / taken,
            "steps_a_second": taken / seconds,
            "drawing_batches_ms_a_step": 1000 * self.drawing_s / taken,
            "drawing_batches_share": self.drawing_s / seconds,
            "processor_ms_a_step": 1000 * self.processor_s / taken,
            "gpu_peak_memory_gib": self.peak_gib,
            "gpu_peak_memory_of_warmup_gib": self.warm_peak_gib,
        }

    def where_time_goes(self) -> Found:
        """Return the operations with the most GPU time, and the GPU's idle time."""
        assert self.record is not None
        events = self.record.key_averages()
        if self.bench.gpu:
            taken = [(one.key, one.count, one.self_device_time_total) for one in events if _is_kernel(one)]
        else:
            taken = [(one.key, one.count, one.self_cpu_time_total) for one in events]
        total = sum(microseconds for _, _, microseconds in taken)
        ms = 1000 * (self.ended - self.started) / (self.last - self.first)
        busy = total / 1000 / self.profiled
        return {
            "profiled_steps": self.profiled,
            "measured_on": "GPU kernels and copies" if self.bench.gpu else "CPU operations",
            "busy_ms_a_step": busy,
            "idle_share_of_an_unprofiled_step": max(0.0, 1 - busy / ms),
            "kernels_a_step": sum(count for _, count, _ in taken) / self.profiled,
            "top": [
                {
                    "name": name[:120],
                    "calls_a_step": count / self.profiled,
                    "ms_a_step": microseconds / 1000 / self.profiled,
                    "share_of_busy": microseconds / max(total, 1e-9),
                }
                for name, count, microseconds in sorted(taken, key=lambda one: -one[2])[:TOP]
            ],
        }


def _is_kernel(event: Any) -> bool:
    named = getattr(event, "is_user_annotation", False) or event.key.startswith(
        ("ProfilerStep", "Optimizer.", "## ")
    )
    return "CUDA" in str(event.device_type) and not named


class Steps(PersonalizedTrainer):
    """palate's trainer without evaluations and checkpoints."""

    watch: Watch

    def training_step(self, *given: Any, **named: Any) -> Tensor:
        """Run a step and keep its loss."""
        loss = super().training_step(*given, **named)
        self.watch.losses.append(loss.detach())
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Skip the evaluation."""
        return {}


def take_steps(
    bench: Bench,
    model: PersonalizedModel,
    recipe: Recipe,
    drawn: Drawn,
    *,
    steps: int,
    warmup: int,
    seconds: float,
    profiled: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    workers: int = 0,
) -> Watch:
    """Train by the recipe for a number of steps, or ``seconds`` if that is shorter, after ``warmup`` steps.

    With ``workers``, batches are drawn in other processes, where the drawing time is not measured.
    """
    watch = Watch(bench, drawn, warmup, steps, seconds, profiled)
    clock = Clock(recipe.train)
    trainer = Steps(
        model,
        recipe.train,
        arguments(bench, recipe, isinstance(drawn, Same), workers),
        drawn,  # type: ignore[arg-type]
        clock,
        score=lambda: DevScore(0.0, 0.0),
        norms=dict,
    )
    if optimizer is not None:
        trainer.optimizer = optimizer
        trainer.lr_scheduler = LambdaLR(optimizer, lambda _: 1.0)
    trainer.watch = watch
    trainer.add_callback(watch)
    trainer.train()
    return watch


def arguments(bench: Bench, recipe: Recipe, on_device: bool, workers: int) -> TrainingArguments:
    """Return the trainer's arguments as in :func:`train_run`, without evaluations and checkpoints."""
    settings = recipe.train
    return TrainingArguments(
        output_dir=str(Path(bench.work) / "trainer"),
        max_steps=settings.max_steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.bf16,
        use_cpu=not bench.gpu,
        seed=SEED,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_pin_memory=bench.gpu and not on_device,
        average_tokens_across_devices=False,
    )
