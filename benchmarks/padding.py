"""Measures the share of padding in training batches, with and without grouping users by length.

    python benchmarks/padding.py --data data/ml-1m [--window 100] [--batches 64]

Counts interactions, and tokens where the history is text; measures no time. With ``train.length_groups``, the users of
several batches are drawn at once and divided by the lengths of their histories.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from palate.config.load import recipe_from
from palate.config.recipe import Recipe
from palate.data.dataset import Dataset, load_dataset
from palate.model.build import build_model, build_table
from palate.tasks import load_task
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock

WINDOW = ("unique", "item", "rating", "mask", "time")


def made(data: Path, window: int, groups: int) -> Recipe:
    return recipe_from(
        {
            "data": {"path": data},
            "windows": {"kind": "random", "shortest": window, "longest": window},
            "model": {
                "backbone": {"kind": "random-t5", "vocab_size": 4000},
                "user_encoder": {"kind": "text", "descriptions": False},
            },
            "train": {"per_device_train_batch_size": 32, "length_groups": groups},
        },
        "benchmark",
    )


def padding(recipe: Recipe, dataset: Dataset, batches: int) -> tuple[float, float]:
    """Return the share of padding among interactions and among tokens."""
    task = load_task(recipe.task, dataset.info)
    model = build_model(recipe, dataset, task, build_table(recipe, dataset))
    drawn = TrainingBatches(recipe, dataset, task, model, Clock(recipe.train))
    real, room = [0, 0], [0, 0]
    for index in range(batches):
        batch = drawn[index]
        masks = batch["mask"], model.catalogue(**{name: batch[name] for name in WINDOW}).mask
        for place, mask in enumerate(masks):
            real[place] += int(mask.sum())
            room[place] += mask.numel()
    return 1 - real[0] / room[0], 1 - real[1] / room[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--batches", type=int, default=64)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    for groups in (1, 8):
        items, tokens = padding(made(arguments.data, arguments.window, groups), dataset, arguments.batches)
        print(
            f"length_groups {groups}: {items:.1%} of the interactions and {tokens:.1%} of the tokens are padding"
        )


if __name__ == "__main__":
    main()
