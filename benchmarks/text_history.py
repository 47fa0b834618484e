"""Compares the User Embedding Module with the history as text, on the same backbone and the same 50 items.

    python benchmarks/text_history.py --data data/ml-1m [--batch 8] [--repeats 5] [--out text.json]

Text is measured with and without item descriptions; with them only for answers, because a training step on thousands
of tokens needs more memory than small machines have. A step is a full training step with random weights (draw,
forward, backward, AdamW); an answer is for a single user, with 20 tokens. The systems take turns, so that other load
on the machine affects them equally. Expected: at least ten times fewer input vectors for the backbone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from palate.config.load import Layer, recipe_from
from palate.config.recipe import Recipe
from palate.data.dataset import load_dataset
from palate.data.windows import make_examples
from palate.model.build import build_model, build_table
from palate.model.model import PersonalizedModel
from palate.system.machine import describe_machine
from palate.tasks import load_task
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from streaming import milliseconds

WINDOW, TOKENS = 50, 20
UEM: dict[str, object] = {"kind": "uem", "num_layers": 3, "num_heads": 4, "d_kv": 32, "d_ff": 256}
SYSTEMS: dict[str, dict[str, object]] = {
    "embeddings": UEM,
    "text": {"kind": "text", "descriptions": False},
    (DESCRIBED := "text with descriptions"): {"kind": "text"},
}


def recipe(user_encoder: dict[str, object], data: Path, batch: int) -> Recipe:
    settings = {
        "data": {"path": data},
        "windows": {"kind": "random", "shortest": WINDOW, "longest": WINDOW},
        "model": {
            "backbone": {"kind": "random-t5", "num_layers": 2, "vocab_size": 4000, "item_texts": True},
            "user_encoder": user_encoder,
            "task_prompt": 20,
        },
        "train": {"per_device_train_batch_size": batch},
        "evaluate": {"window": WINDOW},
    }
    return recipe_from([Layer("benchmark", settings)])


def one_step(model: PersonalizedModel, batches: TrainingBatches, optimizer: torch.optim.Optimizer) -> None:
    batch = batches[0]
    del batch["liked"], batch["disliked"], batch["kinds"]
    optimizer.zero_grad()
    model.train()(**batch)["loss"].backward()
    optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    steps: dict[str, Callable[[], object]] = {}
    answers: dict[str, Callable[[], object]] = {}
    read: dict[str, float] = {}
    for name, user_encoder in SYSTEMS.items():
        made = recipe(user_encoder, arguments.data, arguments.batch)
        task = load_task(made.task, dataset.info)
        model = build_model(made, dataset, task, build_table(made, dataset))
        batches = TrainingBatches(made, dataset, task, model, Clock(made.train))
        examples = make_examples(dataset, task, "test", WINDOW, "random", 0)
        read[name] = float(model.prompt(examples.windows[:20]).lengths.float().mean())
        if name != DESCRIBED:
            steps[name] = partial(one_step, model, batches, torch.optim.AdamW(model.parameters()))
        model.settings = model.settings.model_copy(update={"max_new_tokens": TOKENS})
        model.backbone.generation_config.min_new_tokens = TOKENS
        answers[name] = partial(model.answer, examples.windows[:1])
    step, answer = milliseconds(steps, arguments.repeats), milliseconds(answers, arguments.repeats)
    columns = {"vectors": read, "ms a step": step, "ms an answer": answer}
    for what, values in columns.items():
        for name, value in values.items():
            print(f"{what:14} {name:24} {value:10,.1f} ({value / values['embeddings']:.1f} times)")
    if arguments.out:
        found = {"machine": describe_machine().model_dump(mode="json"), **columns}
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
