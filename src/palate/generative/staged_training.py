"""The training loop of generative recommenders: stages that train different weights, with bit-identical resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from palate.errors import DataError, TrainingError
from palate.system.files import read_bytes, write_bytes
from palate.system.records import Frozen, tensor_metadata

if TYPE_CHECKING:
    from palate.config.recipe import TrainSettings

CHECKPOINT = "stages.safetensors"
_AGAIN = "remove it to train from the beginning"
_TOLD = 100
"""Steps between reports of the training loss."""


@contextmanager
def refusing_damage(checkpoint: Path) -> Iterator[None]:
    """Raise :class:`DataError` if the block cannot parse a checkpoint's content."""
    try:
        yield
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"not a checkpoint of this training ({reason}); {_AGAIN}", checkpoint) from error


@dataclass(frozen=True)
class StageScore:
    """The dev score that selects the best weights."""

    measure: Callable[[], float]
    name: str = "loss"
    maximised: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage of a training: the weights to train, the loss, and the maximum number of steps."""

    name: str
    weights: Sequence[nn.Parameter]
    steps: int
    loss: Callable[[int], Tensor]
    """The loss of a batch, from its number; torch's random numbers are seeded by that of the step."""
    dev: StageScore | None
    """Score that selects the weights to keep; the last weights if None."""
    rate: Callable[[int], float] = lambda step: 1.0
    """Factor of the learning rates at a step."""
    backbone: str = "backbone."
    """How the names of the backbone's weights begin."""


class StageProgress(Frozen):
    """Progress of a training, saved in its checkpoint."""

    stage: int = 0
    step: int = 0
    steps: int = 0
    """Number of completed steps over all stages."""
    best: float | None = None
    since: int = 0
    """Number of evaluations since the last improvement."""
    history: tuple[tuple[str, int, float], ...] = ()
    """Stage, step and dev score of each evaluation."""


class StagedTraining:
    """Trains a module in stages.

    Each stage keeps the weights of its best dev score, including that of its start, and ends after its steps or after
    ``early_stopping_patience`` evaluations without an improvement. At each evaluation a checkpoint is written, from
    which an interrupted training resumes with the same result.

    Args:
        module: The module to train.
        stages: The stages, in order.
        settings: Rates, batches of a step, precision, clipping, evaluations and patience.
        seed: Seed of all stages.
        folder: Folder of the checkpoint.
        report: Called with a line for each evaluation, and for the training loss of every 100 steps.
    """

    def __init__(
        self,
        module: nn.Module,
        stages: Sequence[Stage],
        settings: TrainSettings,
        seed: int,
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        self.module, self.settings, self.seed = module, settings.shared_by(1), seed
        self.stages = [stage for stage in stages if stage.steps and stage.weights]
        self.path, self.report = folder / CHECKPOINT, report
        self.progress = StageProgress()
        names = {id(weight): name for name, weight in module.named_parameters()}
        trained = {id(weight): weight for stage in self.stages for weight in stage.weights}
        self._weights = {names[key]: weight for key, weight in trained.items()}
        self._best: dict[str, Tensor] = {}
        self._losses: list[float] = []
        self._optimizer: torch.optim.AdamW | None = None

    def run(self) -> StageProgress:
        """Run the remaining steps and return the progress; raises :class:`TrainingError` if a loss is not finite."""
        self._resume()
        while self.progress.stage < len(self.stages):
            self._train(self.stages[self.progress.stage])
            self.progress = StageProgress(
                stage=self.progress.stage + 1, steps=self.progress.steps, history=self.progress.history
            )
            self._optimizer, self._best, self._losses = None, {}, []
            self._keep()
        for weight in self.module.parameters():
            weight.requires_grad_(False)
        self.module.eval()
        return self.progress

    def _train(self, stage: Stage) -> None:
        self._only(stage)
        if self._optimizer is None:
            self._optimizer = self._new_optimizer(stage)
        if self.progress.step == 0:
            self._evaluate(stage)
        patience = self.settings.early_stopping_patience
        while self.progress.step < stage.steps and (patience is None or self.progress.since < patience):
            self._step(stage)
            if self.progress.step % self.settings.eval_steps == 0 or self.progress.step == stage.steps:
                self._evaluate(stage)
                self._keep()
        with torch.no_grad():
            for name, weight in self._weights.items():
                if name in self._best:
                    weight.copy_(self._best[name])

    def _step(self, stage: Stage) -> None:
        step = self.progress.step
        torch.manual_seed(
            int(np.random.SeedSequence([self.seed, self.progress.stage, step]).generate_state(1)[0])
        )
        self.module.train()
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * stage.rate(step)
        self._optimizer.zero_grad(set_to_none=True)
        batches = self.settings.gradient_accumulation_steps
        total = 0.0
        for batch in range(step * batches, (step + 1) * batches):
            with torch.autocast(stage.weights[0].device.type, torch.bfloat16, enabled=self.settings.bf16):
                loss = stage.loss(batch) / batches
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss of step {step + 1:,} of the stage {stage.name} is {total}; set a lower "
                "train.learning_rate, and train into a new folder"
            )
        torch.nn.utils.clip_grad_norm_(list(stage.weights), self.settings.max_grad_norm)
        self._optimizer.step()
        self.progress = self.progress.model_copy(update={"step": step + 1, "steps": self.progress.steps + 1})
        self._losses.append(total)
        if (step + 1) % _TOLD == 0:
            self.report(f"{_place(stage, step + 1)}: training loss {np.mean(self._losses):.4f}")
            self._losses.clear()

    @torch.no_grad()
    def _evaluate(self, stage: Stage) -> None:
        if stage.dev is None:
            return
        self.module.eval()
        score, before = stage.dev.measure(), self.progress
        sign = -1 if stage.dev.maximised else 1
        better = before.best is None or sign * score < sign * before.best
        if better:
            own = {id(weight) for weight in stage.weights}
            self._best = {
                name: weight.detach().clone() for name, weight in self._weights.items() if id(weight) in own
            }
        self.progress = before.model_copy(
            update={
                "best": score if better else before.best,
                "since": 0 if better else before.since + 1,
                "history": (*before.history, (stage.name, before.step, score)),
            }
        )
        self.report(f"{_place(stage, before.step)}: dev {stage.dev.name} {score:.4f}")

    def _only(self, stage: Stage) -> None:
        own = {id(weight) for weight in stage.weights}
        for weight in self.module.parameters():
            weight.requires_grad_(id(weight) in own)

    def _new_optimizer(self, stage: Stage) -> torch.optim.AdamW:
        """Create the optimizer, with a separate learning rate of the backbone if it is set."""
        settings = self.settings
        rates: list[tuple[Sequence[nn.Parameter], float]] = [(stage.weights, settings.learning_rate)]
        if settings.backbone_learning_rate is not None:
            names = {id(weight): name for name, weight in self._weights.items()}
            of_backbone = {key for key, name in names.items() if name.startswith(stage.backbone)}
            rates = [
                ([one for one in stage.weights if id(one) not in of_backbone], settings.learning_rate),
                ([one for one in stage.weights if id(one) in of_backbone], settings.backbone_learning_rate),
            ]
        groups = [{"params": weights, "lr": rate, "initial_lr": rate} for weights, rate in rates if weights]
        return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def _keep(self) -> None:
        tensors = {f"weights.{name}": weight.detach() for name, weight in self._weights.items()}
        tensors |= {f"best.{name}": weight for name, weight in self._best.items()}
        if self._optimizer is not None:
            for number, state in self._optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        own = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
        write_bytes(self.path, save(own, {"progress": self.progress.model_dump_json()}))

    def _resume(self) -> None:
        if not self.path.is_file():
            return
        content = read_bytes(self.path, "the checkpoint is missing")
        with refusing_damage(self.path):
            tensors = load(content)
            self.progress = StageProgress.model_validate_json(tensor_metadata(content)["progress"])
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(tensors[f"weights.{name}"])
            self._best = {
                name.removeprefix("best."): one for name, one in tensors.items() if name.startswith("best.")
            }
            if self.progress.stage < len(self.stages) and self.progress.step:
                stage = self.stages[self.progress.stage]
                self._only(stage)
                self._optimizer = self._new_optimizer(stage)
                self._set_optimizer(tensors)
        if self.progress.stage < len(self.stages):
            stage = self.stages[self.progress.stage]
            self.report(f"resuming from the checkpoint: {_place(stage, self.progress.step)}")

    def _set_optimizer(self, tensors: dict[str, Tensor]) -> None:
        assert self._optimizer is not None
        found: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                number, _, what = rest.partition(".")
                found.setdefault(int(number), {})[what] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": found, "param_groups": groups})


def _place(stage: Stage, step: int) -> str:
    return f"stage {stage.name}, step {step:,} of at most {stage.steps:,}"
