"""Part 2: the UEM and the history as text, trained one after the other on the same T5 for the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gpu_parts.backbones import SMALL, TINY, random_t5
from gpu_parts.bench import GIB, SEED, Bench, Found, free_memory
from gpu_parts.steps import Drawn, batches_of, take_steps
from palate.config.load import Layer, recipe_from
from palate.config.recipe import Recipe
from palate.data.windows import make_examples
from palate.evaluation.evaluate import Setting, score_predictors
from palate.evaluation.predictors.controls import AnotherUsersHistory
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.predictors.references import references
from palate.items.blocks import build_block_table
from palate.model.build import build_model
from palate.schema import Examples, Ints, Split, Windows

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

WINDOW, USERS = 50, 200
TOKENS_AT_ONCE = 131_072
"""Maximum number of input vectors per evaluation batch."""
OVERHEAD_S = 42.0
"""Seconds reserved besides training, for building, measuring speed and evaluating."""
DATA_SEED = 0
SYSTEMS: dict[str, dict[str, Any]] = {
    "uem-50": {
        "kind": "uem",
        "num_layers": 3,
        "num_heads": 12,
        "d_kv": 64,
        "d_ff": 2048,
        "dropout": 0.0,
    },
    "text-50": {"kind": "text", "descriptions": False},
}


class InBfloat16:
    """A predictor with matrix products in bfloat16, as in its training."""

    def __init__(self, predictor: PersonalizedPredictor, device: torch.device) -> None:
        self.name, self._predictor, self._device = predictor.name, predictor, device

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict one answer per window."""
        with torch.autocast(self._device.type, torch.bfloat16):
            return self._predictor.predict(user_index, windows)


def measure(bench: Bench, found: Found) -> None:
    """Train and score each system, and score references on the same users."""
    rows = found["rows"] = {}
    found["settings"] = {
        "backbone": "random T5, " + repr(TINY if bench.smoke else SMALL),
        "window": WINDOW,
        "window_kind": "random",
        "users_of_a_split": USERS,
        "train_seconds": bench.train_seconds,
    }
    for name in SYSTEMS:
        with bench.row(rows, name, bench.train_seconds + OVERHEAD_S) as row:
            _system(bench, name, row)
    with bench.row(rows, "without training", 20.0) as row:
        row["scores"] = {
            split: _scores(
                bench, references(bench.dataset, bench.task, ["population", "rule"], "random"), split
            )
            for split in ("dev", "test")
        }


def _system(bench: Bench, name: str, row: Found) -> None:
    recipe = _recipe(bench, name, steps=1000)
    row["recipe"] = recipe.model_dump(mode="json", include={"windows", "model", "train", "seed"})
    model = _model(bench, recipe)
    row["user_encoder_parameters"] = sum(weight.numel() for weight in model.user_encoder.parameters())
    row["backbone_parameters"] = model.backbone.num_parameters()
    steps = bench.steps.get(name) or _affordable(bench, model, recipe)
    del model
    free_memory()
    recipe = _recipe(bench, name, steps)
    model = _model(bench, recipe)  # a new one, because measuring the speed has trained the other
    length = _prompt_length(bench, model)
    drawn = Drawn(batches_of(bench, recipe, model))
    watch = take_steps(
        bench, model, recipe, drawn, steps=steps - 1, warmup=1, seconds=1.1 * bench.train_seconds
    )
    row |= watch.figures()
    row |= {
        "trained_steps": watch.last,
        "max_steps": steps,
        "trained_windows": watch.last * recipe.train.per_device_train_batch_size,
        "train_s": watch.ended - watch.started,
        "vectors_of_a_prompt": length,
        "vectors_read_a_second": length * recipe.train.per_device_train_batch_size * row["steps_a_second"],
        "mean_of_the_last_50_losses": float(torch.stack([*watch.losses]).mean()),
    }
    bench.save()
    model.eval()
    predictor = PersonalizedPredictor(model, name, max(1, int(TOKENS_AT_ONCE / length)))
    bfloat16 = InBfloat16(predictor, bench.device)
    free_memory()
    row["scores"] = {}
    for split in ("dev", "test"):
        row["scores"][split] = _scores(bench, [bfloat16, AnotherUsersHistory(bfloat16, SEED)], split)
        bench.save()
    row["evaluation_peak_memory_gib"] = torch.cuda.max_memory_allocated() / GIB if bench.gpu else 0.0


def _model(bench: Bench, recipe: Recipe) -> PersonalizedModel:
    built = random_t5(bench, TINY if bench.smoke else SMALL, dropout=0.0)
    text = recipe.model.user_encoder.kind == "text"
    table = build_block_table(bench.dataset, False) if text else bench.table(0)
    return build_model(recipe, bench.dataset, bench.task, table, built).to(bench.device)


def _affordable(bench: Bench, model: PersonalizedModel, recipe: Recipe) -> int:
    """Return the number of steps that fit into the time, as a multiple of fifty."""
    if bench.smoke:
        return 3
    drawn = Drawn(batches_of(bench, recipe, model))
    found = take_steps(bench, model, recipe, drawn, steps=12, warmup=6, seconds=8.0).figures()
    return max(50, int(bench.train_seconds * found["steps_a_second"] / 50) * 50)


def _prompt_length(bench: Bench, model: PersonalizedModel) -> float:
    examples = make_examples(bench.dataset, bench.task, "dev", WINDOW, "random", DATA_SEED)
    with torch.inference_mode():
        return float(model.prompt(examples.windows[:32]).lengths.float().mean())


def _scores(bench: Bench, predictors: list[Any], split: Split) -> Found:
    examples = make_examples(bench.dataset, bench.task, split, WINDOW, "random", DATA_SEED)
    first = slice(8 if bench.smoke else USERS)
    examples = Examples(examples.user_index[first], examples.windows[first], examples.truth[first])
    setting = Setting(split=split, window=WINDOW, kind="random", seed=DATA_SEED)
    scored = score_predictors(predictors, examples, bench.task, bench.dataset, setting)
    return {
        one.name: {
            "users": len(examples),
            "liked": one.scores.liked.model_dump(mode="json"),
            "disliked": one.scores.disliked.model_dump(mode="json"),
            "unreadable_share": one.unreadable,
            "answering_s": one.seconds,
            "answers_of_the_first_users": [
                said.answer for said in scored.predictions if said.predictor == one.name
            ][:3],
        }
        for one in scored.predictors
    }


def _recipe(bench: Bench, name: str, steps: int) -> Recipe:
    encoder = dict(SYSTEMS[name])
    if bench.smoke and name == "uem-50":
        encoder |= {"num_layers": 1, "num_heads": 2, "d_kv": 16, "d_ff": 64}
    settings: dict[str, Any] = {
        "name": name,
        "seed": SEED,
        "windows": {"kind": "random", "shortest": WINDOW, "longest": WINDOW},
        "model": {"backbone": {"kind": "random-t5"}, "user_encoder": encoder, "task_prompt": 20},
        "train": {
            "max_steps": steps,
            "per_device_train_batch_size": 4 if bench.smoke else 64,
            "learning_rate": 5e-4,
            "weight_decay": 0.01,
            "bf16": True,
        },
        "evaluate": {"window": WINDOW},
    }
    return recipe_from([Layer("benchmark", settings)])
