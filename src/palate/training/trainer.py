"""transformers' Trainer with palate's losses, dev score, early stopping and checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Adafactor, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState

from palate.config.recipe import TrainSettings
from palate.encoders.base import BindsToData, UserPrompt
from palate.errors import TrainingError
from palate.evaluation.dev import DevScore
from palate.model.config import WEIGHTS
from palate.model.generation import Round
from palate.model.model import PersonalizedModel
from palate.model.record import Ending
from palate.model.weights import not_finite
from palate.runs.run import COMPLETE
from palate.schema import QuestionKind
from palate.system.files import sha256_of, write_json
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.sharding import divided_state, set_weights, whole_state
from palate.training.token_sampler import TokenSampler
from palate.training.tuning import TuningBatches

AUXILIARY_SCALE = 10.0
"""Scales the per-category loss, a mean over many easy decisions, to the magnitude of the answer loss."""


class PersonalizedTrainer(Trainer):  # type: ignore[misc]
    """Trains a :class:`PersonalizedModel`.

    The weights with the best dev score are kept beside the checkpoints in ``best-STEP.safetensors``.

    Args:
        model: The model.
        settings: The recipe's training settings.
        arguments: transformers' training arguments.
        batches: The training batches.
        clock: Progress and learning rates.
        score: Computes the model's dev score.
        norms: Measures the norms of its prompts.
        plain: The unsharded model that is scored and saved: if the weights of ``model`` are sharded over processes,
            they are gathered in it; otherwise the same model.

    Raises:
        TrainingError: A loss or gradient is not finite; raised before the weights are updated.
    """

    optimizer: torch.optim.Optimizer | None
    lr_scheduler: LambdaLR | None
    control: TrainerControl

    def __init__(
        self,
        model: PersonalizedModel,
        settings: TrainSettings,
        arguments: TrainingArguments,
        batches: TrainingBatches | TuningBatches,
        clock: Clock,
        score: Callable[[], DevScore],
        norms: Callable[[], dict[str, float]],
        plain: PersonalizedModel | None = None,
    ) -> None:
        super().__init__(
            model=model, args=arguments, train_dataset=batches, eval_dataset=batches, data_collator=_only
        )
        self.settings, self.batches, self.clock = settings, batches, clock
        self.score, self.norms = score, norms
        self.plain = plain or model
        if self.divided:  # sharded already: accelerate must not wrap it
            self.accelerator.prepare_model = lambda model, *_, **__: model
        count = settings.sampled_tokens
        self.sampler = TokenSampler.of(model, count, arguments.seed) if count else None
        self.best_score, self.best_step, self.worse = -1.0, 0, 0
        self.start: DevScore | None = None
        encoder = model.user_encoder
        seen = encoder.trained_on_data() if isinstance(encoder, BindsToData) else encoder.parameters()
        viewing = {id(weight) for weight in seen}
        self.speaks = any(weight.requires_grad and id(weight) not in viewing for weight in model.parameters())
        """Whether a trained weight gets gradients from the answer's cross entropy alone: all but those of the view."""
        self.remove_callback(PrinterCallback)
        self.add_callback(_Flow(clock))
        self.add_callback(_FiniteGradients(self))

    @property
    def divided(self) -> bool:
        """Whether the weights are sharded over processes."""
        return self.plain is not self.model

    def _gather(self) -> None:
        """Gather the sharded weights of all processes in the plain model."""
        if self.divided:
            self.plain.load_state_dict(whole_state(self.model.state_dict()))

    @property
    def best_weights(self) -> Path:
        """Path of the best weights so far."""
        return Path(self.args.output_dir) / f"best-{self.best_step}.safetensors"

    @property
    def ended_by(self) -> Ending:
        """Why a finished training ended."""
        if self.state.global_step >= self.settings.max_steps:
            return "steps"
        patience = self.settings.early_stopping_patience
        return "patience" if patience is not None and self.worse >= patience else "minutes"

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(train_dataset or self.train_dataset)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Any:
        """Compute the answer's cross entropy plus the weighted auxiliary loss."""
        liked, disliked, kinds = inputs.pop("liked"), inputs.pop("disliked"), inputs.pop("kinds")
        settings, whole = self.settings, self.accelerator.unwrap_model(model)
        alone = not self.speaks or self.clock.alone(self.state.global_step)
        if "prepared" not in inputs:
            answered = (
                None if settings.answers == "truth" else partial(self._answered, inputs["rounds"], kinds)
            )
            sampled = self.sampler and partial(self.sampler.draw, self.state.global_step)
            inputs |= {"user_encoder_alone": alone, "answered": answered, "sampled": sampled}
        output = model(**inputs)
        if self.sampler is not None and not alone and output["sample"] is None:
            self.sampler.learn(*zip(*output["scores"], strict=True))
        loss = output["loss"]
        if settings.auxiliary_weight:
            view = whole.category_loss(output["user"], liked, disliked)
            loss = loss + settings.auxiliary_weight * AUXILIARY_SCALE * view
        return (loss, output) if return_outputs else loss

    def training_step(self, *given: Any, **named: Any) -> Tensor:
        """Compute the loss and gradients of a batch; raises :class:`TrainingError` if the loss is not finite."""
        loss: Tensor = super().training_step(*given, **named)
        if not bool(torch.isfinite(loss).all()):
            raise self.come_apart(f"the loss is {float(loss):g}")
        return loss

    def come_apart(self, found: str) -> TrainingError:
        """Create the error for a non-finite value, with settings to try."""
        settings, step = self.settings, self.state.global_step + 1
        bf16 = ", train.bf16=false" if settings.bf16 else ""
        return TrainingError(
            f"{found} at step {step:,} of {settings.max_steps:,}, from which nothing can be learned; train into a new "
            f"folder with a lower train.learning_rate (now {settings.learning_rate:g}), a longer train.warmup_ratio "
            f"({settings.warmup_ratio:g}) or a lower train.max_grad_norm ({settings.max_grad_norm:g}){bf16}; "
            f"the checkpoint in {self.args.output_dir} is from before, but the same recipe comes from there to the "
            "same step"
        )

    def _answered(
        self, rounds: Sequence[Round], kinds: Sequence[QuestionKind], user: UserPrompt
    ) -> list[Round]:
        whole = self.accelerator.unwrap_model(self.model)
        decided = self.settings.answers == "decided"
        answers, scores = (user.decided, user.scores) if decided else (None, None)
        assert isinstance(self.batches, TrainingBatches)
        if answers is None:
            answers = self.batches.best(whole.category_logits(user))
        return self.batches.answering(answers, rounds, kinds, scores)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with parameter groups for the backbone, the task prompt, and all other weights."""
        if self.optimizer is None:
            settings = self.settings
            rates = {
                "others": settings.learning_rate,
                "backbone": settings.backbone_learning_rate or settings.learning_rate,
                "task_prompt": settings.task_prompt_learning_rate or settings.learning_rate,
            }
            weights: dict[str, list[nn.Parameter]] = {part: [] for part in rates}
            for name, weight in self.model.named_parameters():
                if weight.requires_grad:
                    part = name.split(".")[0]
                    weights[part if part in rates else "others"].append(weight)
            groups = [{"params": weights[part], "lr": rate} for part, rate in rates.items()]
            if settings.optim == "adafactor":
                self.optimizer = Adafactor(
                    groups,
                    scale_parameter=settings.scale_parameter,
                    relative_step=False,
                    weight_decay=settings.weight_decay,
                )
            else:
                self.optimizer = torch.optim.AdamW(
                    groups, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
                )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """Create the scheduler, with the clock's rates in the order of the parameter groups."""
        if self.lr_scheduler is None:
            rates: list[Callable[[int], float]] = [self.clock.rate, self.clock.backbone_rate, self.clock.rate]
            self.lr_scheduler = LambdaLR(optimizer or self.create_optimizer(), rates)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Compute the dev score, keep the best weights, and stop early if patience is exhausted.

        In the auxiliary-only phase the model cannot answer yet, and there is no score.

        Raises:
            TrainingError: A weight is not finite.
        """
        self._gather()
        if broken := not_finite(dict(self.plain.named_parameters())):
            raise self.come_apart(f"the weights {broken} are not finite")
        self.model.eval()
        self.plain.eval()
        metrics = {f"{metric_key_prefix}_norm_{name}": norm for name, norm in self.norms().items()}
        if self._can_be_asked():
            score = broadcast_object_list([self.score() if self.args.should_save else None])[0]
            self._keep_if_best(score)
            metrics |= {
                f"{metric_key_prefix}_f1": score.f1,
                f"{metric_key_prefix}_unreadable": score.unreadable,
            }
        self.model.train()
        metrics[f"{metric_key_prefix}_minutes"] = round(self.clock.seconds / 60, 3)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _can_be_asked(self) -> bool:
        """Return whether answers can be scored: the backbone has been trained for a step, or is never trained."""
        step = self.state.global_step
        return not self.speaks or not self.clock.alone(step - 1) or self.clock.progress(step) >= 1.0

    def _keep_if_best(self, score: DevScore) -> None:
        if score.f1 > self.best_score and (self.start is None or score.is_above(self.start)):
            self.best_score, self.best_step, self.worse = score.f1, self.state.global_step, 0
            if self.args.should_save:
                self.plain.save_weights(self.best_weights)
        else:
            self.worse += 1
        patience = self.settings.early_stopping_patience
        self.control.should_training_stop |= patience is not None and self.worse >= patience

    def keep_start(self, strictly: bool, resumes: bool) -> float:
        """Score the initial weights, and keep them as the best so far unless a training is resumed.

        Args:
            strictly: Other weights replace them only if their score is higher beyond chance.
            resumes: Whether best weights have been restored.

        Returns:
            Their score.
        """
        self.model.eval()
        score = self.score()
        self.model.train()
        if not resumes:
            self._keep_if_best(score)
        self.start = score if strictly else None
        return score.f1

    def resume(self) -> str | None:
        """Restore clock and best score of the newest complete checkpoint, and remove what is damaged.

        Returns:
            The checkpoint's folder; None if there is none.
        """
        whole, place = {}, Path(self.args.output_dir)
        for folder in place.glob("checkpoint-*"):
            if kept := _whole(folder):
                whole[int(folder.name.removeprefix("checkpoint-"))] = folder, kept
            elif self.args.should_save:
                shutil.rmtree(folder)
        for weights in place.glob("best-*.safetensors") if self.args.should_save else ():
            if weights.is_dir():  # a folder cannot be overwritten by a file
                shutil.rmtree(weights)
        if not whole:
            return None
        newest, kept = whole[max(whole)]
        self.clock.restart(kept["seconds"])
        self.best_score, self.best_step, self.worse = kept["best_score"], kept["best_step"], kept["worse"]
        if self.sampler is not None:
            self.sampler.likely = kept["likely"]
        return str(newest)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._gather()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # until each process has written its random number generator's state
        if self.args.should_save:
            kept = {
                "seconds": self.clock.seconds,
                "best_score": self.best_score,
                "best_step": self.best_step,
                "worse": self.worse,
                "likely": self.sampler.likely if self.sampler else [],
            }
            folder = Path(self.args.output_dir)
            checkpoint = folder / f"checkpoint-{self.state.global_step}"
            files = [*(path for path in checkpoint.iterdir() if path.is_file()), self.best_weights]
            kept["files"] = {
                os.path.relpath(path, checkpoint): sha256_of(path) for path in files if path.exists()
            }
            write_json(checkpoint / COMPLETE, kept)
            for path in set(folder.glob("best-*.safetensors")) - {self.best_weights}:
                path.unlink()  # only now: a resumed training may need the best weights of its checkpoint

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.plain.save_weights(folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.plain.load_weights(Path(resume_from_checkpoint) / WEIGHTS)
        if self.divided:
            set_weights(self.model, self.plain.state_dict())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.divided:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = whole_state(self.optimizer.state_dict())
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.divided or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(divided_state(state, self.optimizer))
        schedule = torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)


class _Flow(TrainerCallback):  # type: ignore[misc]
    """Callback that ends the training by the clock, after an evaluation, and logs the loss at each evaluation.

    Logs and checkpoints coincide, so that a resumed training has no losses to log from before its checkpoint.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.clock.progress(state.global_step) >= 1.0:
            control.should_training_stop = control.should_evaluate = True
        control.should_log |= control.should_evaluate


def _whole(checkpoint: Path) -> dict[str, Any] | None:
    """Read a checkpoint's metadata; None if the checkpoint is incomplete or damaged."""
    try:
        kept: dict[str, Any] = json.loads((checkpoint / COMPLETE).read_bytes())
        files: dict[str, str] = kept.get("files", {})
        return kept if all(sha256_of(checkpoint / name) == digest for name, digest in files.items()) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class _FiniteGradients(TrainerCallback):  # type: ignore[misc]
    """Callback that stops before the optimizer applies gradients that are not finite."""

    def __init__(self, trainer: PersonalizedTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        gradients = [weight.grad for weight in self.trainer.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)  # after clipping, which makes infinite ones NaN
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not bool(torch.isfinite(norm)):
            raise self.trainer.come_apart("the gradients are not finite")


def _only(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the only item: an item of :class:`TrainingBatches` is a batch."""
    return batches[0]
