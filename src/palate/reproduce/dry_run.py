"""Output of `palate reproduce --dry-run`: the cells and their estimated costs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch

from palate.data.dataset import load_dataset
from palate.report.build import duration
from palate.reproduce.estimate import estimate, machine_speed
from palate.reproduce.plan import Cell


def described_cells(cells: Sequence[Cell], jobs: int, device: torch.device) -> Iterator[str]:
    """Describe each cell, and the total with ``jobs`` concurrent trainings, one line each."""
    dataset = load_dataset(cells[0].recipe.data.path)
    speed = machine_speed(max(1, (os.cpu_count() or 1) // jobs), device)
    total, most = 0.0, 0.0
    for cell in cells:
        about, train = estimate(cell.recipe, dataset), cell.recipe.train
        seconds = 60 * min(about.minutes(speed), train.max_minutes or float("inf"))
        total, most = total + seconds, max(most, about.memory_gib)
        yield (
            f"{cell.name}: {train.max_steps:,} steps of {train.windows_per_step}, "
            f"{about.parameters / 1e6:,.1f}M parameters, {about.input_vectors:,.0f} input vectors, "
            f"about {duration(seconds)} and {about.memory_gib:.1f} GiB"
        )
    yield (
        f"{len(cells)} cells, about {duration(total / jobs)} of training and up to {jobs * most:.1f} GiB; asking "
        "them comes on top"
    )
