"""Part 3: palate's streaming user encoder, trained through frozen decoders with Gemma 3's sizes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_parts.backbones import GEMMA, TINY_GEMMA, random_gemma
from gpu_parts.bench import Bench, Found
from gpu_parts.steps import Drawn, batches_of, take_steps
from palate.config.load import load_recipe
from palate.config.recipe import Recipe
from palate.model.build import build_model

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

RECIPE = Path(__file__).parents[2] / "recipes" / "gemma3-270m-frozen.yaml"
MODEL_S, ROW_S = 75.0, 24.0
ROWS: dict[str, list[tuple[int, int]]] = {
    "Gemma 3 270M": [(4, 4096), (16, 4096)],
    "Gemma 3 1B": [(4, 4096)],
    "Gemma 3 4B": [(4, 4096)],
}
"""Windows per step, and ``train.sampled_tokens`` (0: the full vocabulary)."""


def measure(bench: Bench, found: Found) -> None:
    """Measure each size, with the recipe's batch size and larger ones."""
    found["settings"] = {
        "recipe": "recipes/gemma3-270m-frozen.yaml",
        "changed": "random weights in bfloat16, train.bf16=true, simulation.users=0, no run to start from",
        "tokenizer": "the decoder's own" if bench.tokenizer else "built from the data",
        "exact_steps": "the first step scores all tokens; it is among those that warm up",
    }
    models = found["models"] = {}
    for name, rows in ROWS.items() if not bench.smoke else [("tiny", [(2, 64), (2, 0)])]:
        with bench.row(models, name, MODEL_S) as one:
            _model(bench, TINY_GEMMA if bench.smoke else GEMMA[name], rows, one)


def _model(bench: Bench, sizes: dict[str, Any], rows: list[tuple[int, int]], found: Found) -> None:
    start = time.perf_counter()
    model: PersonalizedModel = build_model(
        _recipe(bench, 2, 0, 1), bench.dataset, bench.task, bench.table(0), random_gemma(bench, sizes)
    ).to(bench.device)
    found["sizes"] = sizes
    found["backbone_parameters"] = model.backbone.num_parameters()
    found["trained_parameters"] = sum(w.numel() for w in model.parameters() if w.requires_grad)
    found["build_s"] = time.perf_counter() - start
    measured = found["rows"] = {}
    for windows, sampled in rows:
        scored = f"{sampled} sampled tokens" if sampled else "all tokens"
        with bench.row(measured, f"{windows} windows a step, {scored}", ROW_S) as row:
            steps = 2 if bench.smoke else 12
            recipe = _recipe(bench, windows, sampled, steps + 4)
            drawn = Drawn(batches_of(bench, recipe, model))
            watch = take_steps(bench, model, recipe, drawn, steps=steps, warmup=3, seconds=ROW_S / 2)
            row |= watch.figures()
            row |= {
                "batch_size": windows,
                "rounds": recipe.train.rounds,
                "sampled_tokens": sampled,
                "questions_a_second": windows * recipe.train.rounds * row["steps_a_second"],
            }


def _recipe(bench: Bench, windows: int, sampled: int, steps: int) -> Recipe:
    changes = [
        "simulation.users=0",
        "model.user_encoder_from=null",
        "model.backbone.dtype=bfloat16",
        "train.bf16=true",
        f"train.per_device_train_batch_size={windows}",
        f"train.sampled_tokens={sampled}",
        f"train.max_steps={steps}",
    ]
    return load_recipe(RECIPE, changes)
