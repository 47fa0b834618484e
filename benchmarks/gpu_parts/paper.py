"""Part 1: a training step of the paper's UEM on Flan-T5 base, with a profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpu_parts.backbones import BASE, TINY, random_t5
from gpu_parts.bench import GIB, Bench, Found
from gpu_parts.steps import Drawn, Same, batches_of, on, take_steps
from palate.config.load import load_recipe
from palate.config.recipe import Recipe
from palate.model.build import build_model
from palate.training.layers import compile_layers

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

RECIPE = Path(__file__).parents[2] / "recipes" / "paper" / "flan-t5-base-50.yaml"
UEM_PARAMETERS = 65_486_976
PEAK = 989e12
"""Peak dense bfloat16 FLOP/s of an H100 SXM, from its datasheet."""
DROPOUT = 0.1
"""Flan-T5's."""
VECTOR = 768
"""Size of Sentence-T5's vectors."""
ROW_S = 30.0


def measure(bench: Bench, found: Found) -> None:
    """Measure the recipe's training step, and variants of it."""
    PaperStep(bench, found).measure()


class PaperStep:
    """The paper's model, and the rows of its results."""

    def __init__(self, bench: Bench, found: Found) -> None:
        self.bench, self.found = bench, found
        self.recipe = self._recipe(steps=10_000)
        sizes = TINY if bench.smoke else BASE
        built = random_t5(bench, sizes, DROPOUT)
        table = bench.table(32 if bench.smoke else VECTOR)
        self.model: PersonalizedModel = build_model(self.recipe, bench.dataset, bench.task, table, built)
        uem = sum(weight.numel() for weight in self.model.user_encoder.parameters())
        if not bench.smoke and uem != UEM_PARAMETERS:
            raise RuntimeError(f"the UEM has {uem:,} parameters, expected the paper's {UEM_PARAMETERS:,}")
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.to(bench.device)
        found["settings"] = {
            "recipe": "recipes/paper/flan-t5-base-50.yaml",
            "changed": "windows.kind=random, train.bf16=true, random weights, random item vectors",
            "item_vector_size": table.size,
            "batch_size": self.recipe.train.per_device_train_batch_size,
            "dropout": DROPOUT,
            "user_encoder_parameters": uem,
            "backbone_parameters": self.model.backbone.num_parameters(),
            "peak_flop_a_second": PEAK,
        }

    def measure(self) -> None:
        """Measure all rows; those that change the model permanently come last."""
        rows = self.found["rows"] = {}
        self.flop = {self.recipe.train.per_device_train_batch_size: self._counted(self.recipe)}
        self._row(rows, "as the recipe says: Adafactor, batches drawn for each step", drawn=True, profiled=1)
        self._row(rows, "AdamW, fused, one batch", optimizer="adamw_torch")
        if not self.bench.smoke:
            self._row(rows, "AdamW, fused, 512 windows, one batch", optimizer="adamw_torch", batch=512)
        backend = "aot_eager" if self.bench.smoke else "inductor"
        for part in (self.model.user_encoder, self.model.backbone):
            compile_layers(part, backend)
        name = "AdamW, layers compiled"
        self._row(rows, f"{name}, one batch", optimizer="adamw_torch", warmup=4, seconds=90.0, profiled=1)
        if not self.bench.smoke:
            self._row(
                rows, f"{name}, batches drawn by 4 processes", optimizer="adamw_torch", drawn=True, workers=4
            )
            self._row(rows, f"{name}, 512 windows, one batch", optimizer="adamw_torch", batch=512, warmup=4)

    def _row(
        self,
        rows: Found,
        name: str,
        *,
        drawn: bool = False,
        optimizer: str = "adafactor",
        batch: int | None = None,
        workers: int = 0,
        warmup: int = 5,
        profiled: int = 0,
        seconds: float = ROW_S,
    ) -> None:
        smoke = self.bench.smoke
        steps, warmup, profiled = (1, 1, min(profiled, 1)) if smoke else (25, warmup, profiled)
        with self.bench.row(rows, name, seconds) as row:
            rate = 5e-3 if optimizer == "adafactor" else 1e-4
            changes = [f"train.optim={optimizer}", f"train.learning_rate={rate}"]
            if batch is not None:
                changes.append(f"train.per_device_train_batch_size={batch}")
            recipe = self._recipe(warmup + steps + profiled + 1, changes)
            windows = recipe.train.per_device_train_batch_size
            self.model.load_state_dict(self.start)
            batches = batches_of(self.bench, recipe, self.model)
            source = Drawn(batches) if drawn else Same(batches, self.bench.device)
            if windows not in self.flop:
                self.flop[windows] = self._counted(recipe)
            watch = take_steps(
                self.bench,
                self.model,
                recipe,
                source,
                steps=steps,
                warmup=warmup,
                seconds=seconds / 3,
                profiled=profiled,
                workers=workers,
            )
            row |= watch.figures()
            flop = self.flop[windows]
            row |= {
                "workers": workers,
                "batch_size": windows,
                "windows_a_second": windows * row["steps_a_second"],
                "tflop_a_step": flop / 1e12,
                "tflop_a_second": flop * row["steps_a_second"] / 1e12,
                "share_of_peak": flop * row["steps_a_second"] / PEAK,
            }
            if profiled:
                row["profile"] = watch.where_time_goes()
            self.model.zero_grad(set_to_none=True)

    def _counted(self, recipe: Recipe) -> float:
        """Count the FLOPs of one batch's forward and backward pass, padding included, by torch's counter.

        Attention is computed as explicit matrix products, which the counter supports on every device.
        """
        counted = self.found.setdefault("counted", {})
        counted["by"] = "torch.utils.flop_counter.FlopCounterMode, forward and backward, padding included"
        batch = on(batches_of(self.bench, recipe, self.model)[0], self.bench.device)
        counted["windows_of_a_full_50_share"] = float(batch["mask"].float().mean())
        counted["vectors_of_a_prompt"] = (
            recipe.model.task_prompt + batch["mask"].shape[1] + (batch["rounds"][0]["instruction"].shape[1])
        )
        counted["target_tokens"] = batch["rounds"][0]["target"].shape[1]
        self._attention("eager")
        self.model.train()
        for name in ("liked", "disliked", "kinds"):
            del batch[name]
        autocast = torch.autocast(self.bench.device.type, torch.bfloat16)
        with autocast, FlopCounterMode(display=False) as counter:
            loss = self.model(**batch)["loss"]
            loss.backward()
        self.model.zero_grad(set_to_none=True)
        self._attention("sdpa")
        counted[f"tflop_of_{recipe.train.per_device_train_batch_size}_windows"] = (
            counter.get_total_flops() / 1e12
        )
        counted["model_on_gpu_gib"] = torch.cuda.memory_allocated() / GIB if self.bench.gpu else 0.0
        return float(counter.get_total_flops())

    def _attention(self, kind: str) -> None:
        self.model.backbone.set_attn_implementation(kind)
        self.model.user_encoder.layers.set_attn_implementation(kind)

    def _recipe(self, steps: int, changes: list[str] | None = None) -> Recipe:
        small = [
            "model.user_encoder.num_layers=1",
            "model.user_encoder.num_heads=2",
            "train.per_device_train_batch_size=4",
        ]
        tiny = ["model.user_encoder.d_ff=64", *small] if self.bench.smoke else []
        return load_recipe(
            RECIPE,
            ["windows.kind=random", "train.bf16=true", f"train.max_steps={steps}", *tiny, *(changes or [])],
        )
