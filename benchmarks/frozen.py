"""Measures the training cost per question with a frozen backbone: rounds of questions, and a sampled vocabulary.

    python benchmarks/frozen.py [RECIPE] [--set key=value] [--repeats 3] [--out frozen.json]

Forward and backward passes over the same windows take turns in four variants: one question per window or the recipe's
``train.rounds``, scored against all tokens or against ``train.sampled_tokens``.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch

from palate.config.load import load_recipe
from palate.config.recipe import Recipe
from palate.data.dataset import load_dataset
from palate.model.build import build_model, build_table
from palate.system.machine import describe_machine
from palate.tasks import load_task
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.token_sampler import TokenSampler

RECIPE = Path(__file__).parents[1] / "recipes" / "gemma3-270m-frozen.yaml"


def measured(recipe: Recipe, repeats: int) -> dict[str, float]:
    """Return seconds per question of each variant: the median over the repeats after a warm-up."""
    dataset = load_dataset(recipe.data.path)
    task = load_task(recipe.task, dataset.info)
    model = build_model(recipe, dataset, task, build_table(recipe, dataset)).train()
    sampler = TokenSampler.of(model, recipe.train.sampled_tokens, recipe.seed)
    batches = TrainingBatches(recipe, dataset, task, model, Clock(recipe.train))
    taken: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        batch = batches[repeat]
        for part in ("liked", "disliked", "kinds"):
            batch.pop(part)
        rounds = batch.pop("rounds")
        for some in (1, len(rounds)):
            for tokens in ("all", "sampled"):
                drawn = partial(sampler.draw, repeat + 1) if tokens == "sampled" else None
                start = time.perf_counter()
                # alternate between the kinds of questions, so that all variants ask the same ones
                asked = [rounds] if some > 1 else [[one] for one in rounds]
                for these in asked:
                    output = model(**batch, rounds=these, sampled=drawn)
                    output["loss"].backward()
                    model.zero_grad()
                seconds = time.perf_counter() - start
                taken.setdefault(f"{some} a window, {tokens} tokens", []).append(seconds / len(rounds))
                if tokens == "all":
                    sampler.learn(*zip(*output["scores"], strict=True))
    return {
        form: median(times[1:]) / recipe.train.per_device_train_batch_size for form, times in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", type=Path, default=RECIPE)
    parser.add_argument(
        "--set", action="append", default=[], help="override of a recipe setting, as in palate train"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    found = measured(load_recipe(arguments.recipe, arguments.set), arguments.repeats)
    first = next(iter(found.values()))
    for form, seconds in found.items():
        print(f"{form:<30} {1000 * seconds:>8.0f} ms a question {first / seconds:>6.2f} times as fast")
    if arguments.out:
        machine = describe_machine().model_dump(mode="json")
        written = {"machine": machine, "threads": torch.get_num_threads(), "seconds_a_question": found}
        arguments.out.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
