"""Output of ``palate reproduce --dry-run``: missing inputs, the cells, and their estimated cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from palate.data.dataset import INFO_FILE, load_dataset
from palate.report.build import duration
from palate.reproduce.estimate import Estimate, can_estimate, estimate, machine_speed
from palate.reproduce.places import Places
from palate.reproduce.plan import Cell, Preset
from palate.reproduce.ready import missing


@dataclass(frozen=True)
class GpuKind:
    """A GPU, with figures of its data sheet."""

    name: str
    peak: float
    """Dense bfloat16 operations per second."""
    memory_gib: float


GPUS = (
    GpuKind("H200 SXM", 989e12, 141),
    GpuKind("H100 SXM", 989e12, 80),
    GpuKind("A100", 312e12, 80),
    GpuKind("L40S", 362e12, 48),
    GpuKind("L4", 121e12, 24),
)
MEASURED, TUNED = 0.039, 0.4
"""Fractions of the peak: of a UEM with 50 items on an H200 (docs/results-gpu.json), and typical of large models."""


def described_cells(
    preset: Preset, cells: Sequence[Cell], places: Places, device: torch.device
) -> Iterator[str]:
    """Yield a line per missing input, per cell, and for the total.

    Times are for this machine or, for the paper's models on a machine without a GPU, for some GPUs.
    """
    yield from missing(cells)
    path = cells[0].recipe.data.path
    dataset = load_dataset(path) if (path / INFO_FILE).is_file() else None
    if dataset is None:
        yield "the dataset is missing: estimates assume full windows, and item texts as long as in the paper"
    estimates = {cell.name: estimate(cell.recipe, dataset) for cell in cells if can_estimate(cell.recipe)}
    here = preset != "paper" or device.type != "cpu"
    speed = machine_speed(places.threads, device) if here else 0.0
    total = 0.0
    for cell in cells:
        train = cell.recipe.train
        steps = f"{cell.name}: {train.max_steps:,} steps of {train.windows_per_step}"
        about = estimates.get(cell.name)
        if about is None:
            yield f"{steps}; the cost of a {cell.recipe.model.backbone.kind} backbone is not estimated"
            continue
        taken = ""
        if here:
            seconds = 60 * min(about.minutes(speed), train.max_minutes or float("inf"))
            total += seconds
            taken = f"{duration(seconds)} and "
        yield (
            f"{steps}, {about.parameters / 1e6:,.1f}M parameters, {about.input_vectors:,.0f} input vectors, "
            f"{about.operations:.1e} operations, about {taken}{about.memory_gib:.1f} GiB"
        )
    if not estimates:
        return
    most = max(one.memory_gib for one in estimates.values())
    together = places.jobs * most
    if here:
        yield (
            f"{len(estimates)} cells, about {duration(total / places.jobs)} of training and up to {together:.1f} GiB; "
            "evaluation comes on top"
        )
    else:
        yield f"{len(estimates)} cells, {sum(one.operations for one in estimates.values()):.1e} operations of training"
        yield from _on_gpus(estimates)


def _on_gpus(estimates: dict[str, Estimate]) -> Iterator[str]:
    """Estimate time and memory of the cells on some GPUs."""
    operations = sum(one.operations for one in estimates.values())
    yield (
        f"hours of one GPU at {TUNED:.0%} and at {MEASURED:.1%} of its bfloat16 peak (the second is what the UEM of "
        "50 items was measured at on an H200, and at 9.2% with train.torch_compile); evaluation comes on top"
    )
    for gpu in GPUS:
        best, worst = (operations / (share * gpu.peak) / 3600 for share in (TUNED, MEASURED))
        large = [name for name, one in estimates.items() if one.memory_gib > gpu.memory_gib]
        fit = "every cell fits" if not large else f"{len(large)} cells do not fit, the first {large[0]}"
        kind = f"{gpu.name} ({gpu.peak / 1e12:,.0f} TFLOP/s, {gpu.memory_gib:.0f} GiB)"
        yield f"  {kind}: {best:,.0f} to {worst:,.0f} hours; {fit}"
