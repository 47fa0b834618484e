"""Measures windows per second of a training step, and the time of each part of the step.

    python benchmarks/training.py --data data/ml-1m [RECIPE] [--set key=value] [--batches 16] [--out training.json]

Steps of the user encoder alone and full steps take turns on the same batches, from the middle of the recipe's
training. A step is then inspected: is each distinct item of a batch projected once, and are item vectors copied
anywhere? The recipe is recipes/movielens-1m.yaml by default.

A training that starts from a model without a catalogue (recipes/own-data.yaml) has only steps of the user encoder, and
no item vectors. Its batches are drawn in groups, so whole groups are timed, with new ones in each round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from palate.config.load import load_recipe
from palate.config.recipe import Recipe
from palate.data.dataset import load_dataset
from palate.model.build import build_model, build_table
from palate.model.model import PersonalizedModel
from palate.system.machine import describe_machine
from palate.tasks import load_task
from palate.training.clock import Clock
from palate.training.train import batches_of
from palate.training.trainer import AUXILIARY_SCALE
from palate.training.tuning import BATCHES_A_GROUP, EPOCHS, TuningBatches

RECIPE = Path(__file__).parents[1] / "recipes" / "movielens-1m.yaml"
DRAW, READ, WRITE, BACK_WRITE, BACK_READ, UPDATE = PARTS = (
    "drawing the batch",
    "user encoder, forward",
    "backbone, forward",
    "backbone, backward",
    "user encoder, backward",
    "optimizer",
)


class Stopwatch:
    """Adds the seconds since the last lap to a part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to ``part``."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now


class Steps:
    """Training steps of a new model, as the trainer runs them."""

    def __init__(self, recipe: Recipe) -> None:
        dataset = load_dataset(recipe.data.path)
        task = load_task(recipe.task, dataset.info)
        self.model: PersonalizedModel = build_model(
            recipe, dataset, task, build_table(recipe, dataset)
        ).train()
        self.settings = recipe.train
        self.batches = batches_of(recipe, dataset, task, self.model, Clock(recipe.train))
        self.prepared = isinstance(self.batches, TuningBatches)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        self.processor: dict[str, float] = {}
        """CPU seconds of a round of each kind of step."""

    @property
    def forms(self) -> dict[str, bool]:
        """Kinds of steps, and whether each trains the user encoder alone."""
        if self.prepared:
            return {"alone": True}
        return {"alone": True, "whole": False} if self.settings.auxiliary_weight else {"whole": False}

    def batch(self, number: int) -> dict[str, Any]:
        """Return a batch from the middle of the training, whose labels are of full histories."""
        middle = len(self.batches) // 2
        if self.prepared:
            middle -= middle % (BATCHES_A_GROUP * EPOCHS)
        return self.batches[middle + number]

    def take(self, number: int, alone: bool) -> list[float]:
        """Run one step, of the user encoder ``alone`` or full; return the seconds of its parts, in order."""
        watch = Stopwatch()
        batch = self.batch(number)
        watch.lap(DRAW)
        reading = self.model.user_encoder.register_forward_hook(lambda *_: watch.lap(READ))
        loss, user = self.loss(batch, alone, watch)
        reading.remove()
        if user.requires_grad:
            user.register_hook(lambda _: watch.lap(BACK_WRITE))  # the backbone's backward pass is done
        loss.backward()
        watch.lap(BACK_READ)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        watch.lap(UPDATE)
        return list(watch.seconds.values())

    def loss(self, batch: dict[str, Any], alone: bool, watch: Stopwatch) -> tuple[Tensor, Tensor]:
        """Compute the loss, and the user prompts [B, M, E] between the two parts of the model."""
        liked, disliked, _ = batch.pop("liked"), batch.pop("disliked"), batch.pop("kinds")
        output = self.model(**batch) if self.prepared else self.model(**batch, user_encoder_alone=alone)
        loss: Tensor = output["loss"]
        if not alone:
            watch.lap(WRITE)
        if weight := self.settings.auxiliary_weight * AUXILIARY_SCALE:
            loss = loss + weight * self.model.category_loss(output["user"], liked, disliked)
            watch.lap(READ)
        return loss, output["user"].embeddings


def timed(steps: Steps, batches: int, repeats: int) -> dict[str, np.ndarray]:
    """Time each part in steps of the user encoder alone and in full ones: means over the batches in seconds, [6]."""
    forms = steps.forms
    taken: dict[str, list[list[list[float]]]] = {form: [] for form in forms}
    processor = {form: np.zeros(repeats + 1) for form in forms}
    for repeat in range(repeats + 1):
        for form in forms:
            taken[form].append([])
        first = repeat * batches if steps.prepared else 0  # drawn groups are cached
        for number in range(first, first + batches):
            for form, alone in forms.items():
                start = time.process_time()
                taken[form][repeat].append(steps.take(number, alone))
                processor[form][repeat] += time.process_time() - start
    steps.processor = {form: float(np.median(each[1:])) for form, each in processor.items()}
    # the first round is a warm-up; the median over rounds ignores disturbances
    return {form: np.median(np.array(rounds[1:]), axis=0).mean(axis=0) for form, rounds in taken.items()}


def tensors(batch: dict[str, Any]) -> list[Tensor]:
    return [value for value in batch.values() if isinstance(value, Tensor)]


def looked_into(steps: Steps, batches: int) -> dict[str, Any]:
    """Inspect full steps: rows that are projected, and operations on item vectors."""
    model = steps.model
    items, fields, size = model.catalogue.item_vectors.shape
    projected: Counter[str] = Counter()

    def count(name: str, read: Tensor) -> None:
        if not read.requires_grad:  # item vectors are constants; inputs of other layers are not
            projected[name] += read.shape[:-1].numel()

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: count(name, inputs[0]))
        for name, module in model.user_encoder.named_modules()
        if isinstance(module, nn.Linear) and module.in_features == fields * size
    ]
    operations: Counter[str] = Counter()
    interactions = distinct = carried = 0
    for number in range(batches):
        batch = steps.batch(number)
        named = len(batch["unique"])
        interactions += int(batch["mask"].sum())
        distinct += named
        carried += sum(tensor.nbytes for part in (batch, *batch["rounds"]) for tensor in tensors(part))
        vectors = ([items, fields, size], [named, fields, size], [named, fields * size])
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
            loss, _ = steps.loss(batch, alone=False, watch=Stopwatch())
            loss.backward()
        steps.optimizer.zero_grad()
        operations.update(
            event.name for event in record.events() if any(shape in vectors for shape in event.input_shapes)
        )
    for hook in hooks:
        hook.remove()
    return {
        "batches": batches,
        "interactions": interactions,
        "distinct_items": distinct,
        "projected_rows": dict(projected),
        "bytes_a_batch": carried // batches,
        "bytes_of_the_catalogue": model.catalogue.item_vectors.nbytes,
        "operations_on_item_vectors": dict(operations),
        "copies_of_item_vectors": sum(count for name, count in operations.items() if "copy" in name),
    }


def tell(found: dict[str, Any]) -> None:
    distinct = found["distinct_items"]
    print(
        f"{found['batches']} batches of {found['interactions']:,} interactions with {distinct:,} distinct items"
    )
    for name, rows in found["projected_rows"].items():
        print(f"  {name} projects {rows:,} rows, {rows / distinct:.2f} for a distinct item")
    print(
        f"  a batch brings {found['bytes_a_batch']:,} bytes; the {found['bytes_of_the_catalogue']:,} bytes of item "
        f"vectors stay with the model, and {found['copies_of_item_vectors']} operations copy some"
    )
    operations = ", ".join(f"{name} {count}" for name, count in found["operations_on_item_vectors"].items())
    print(f"  operations that read them: {operations}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", type=Path, default=RECIPE)
    parser.add_argument("--data", type=Path, required=True, help="folder written by palate prepare")
    parser.add_argument(
        "--set", action="append", default=[], help="override of a recipe setting, as in palate train"
    )
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    start = time.perf_counter()
    steps = Steps(load_recipe(arguments.recipe, [*arguments.set, f"data.path={arguments.data}"]))
    print(f"set up in {time.perf_counter() - start:.1f} s; {torch.get_num_threads()} threads")
    batches = BATCHES_A_GROUP * EPOCHS if steps.prepared else arguments.batches
    times = timed(steps, batches, arguments.repeats)
    print(f"{'':<24}" + "".join(f"{form:>20}" for form in times))
    for index, part in enumerate(PARTS):
        cells = (f"{one[index] * 1e3:>11.1f} ms {one[index] / one.sum():>5.0%}" for one in times.values())
        print(f"{part:<24}" + "".join(cells))
    size = len(steps.batch(0)["liked"])
    speed = {form: size / one.sum() for form, one in times.items()}
    print(f"{'windows a second':<24}" + "".join(f"{one:>14,.0f}      " for one in speed.values()))
    processor = {form: size * batches / one for form, one in steps.processor.items()}
    print(f"{'… of processor time':<24}" + "".join(f"{one:>14,.0f}      " for one in processor.values()))
    found: dict[str, Any] = {}
    if not steps.prepared:
        found = looked_into(steps, batches=3)
        tell(found)
    if arguments.out:
        written = {
            "machine": describe_machine().model_dump(mode="json"),
            "threads": torch.get_num_threads(),
            "windows_a_second": {form: round(one) for form, one in speed.items()},
            "windows_a_processor_second": {form: round(one) for form, one in processor.items()},
            "milliseconds": {
                form: dict(zip(PARTS, (one * 1e3).round(2).tolist(), strict=True))
                for form, one in times.items()
            },
            "looked_into": found,
        }
        arguments.out.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
