"""Training: a recipe in, a run folder with a trained model out; started again, it goes on where it stopped."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import isnan
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainingArguments
from transformers.integrations import TensorBoardCallback

from palate.config import Recipe
from palate.data.dataset import load_dataset
from palate.data.histories import make_examples
from palate.errors import PalateError, RecipeError
from palate.files import remove_leftovers, telling_failed_writes, write_json
from palate.locks import locked
from palate.machine import keep_freed_memory
from palate.metrics import membership, weighted_f1
from palate.model.backbone import checkpoint_activations
from palate.model.build import build_model, build_table
from palate.model.token_like import prompt_norms
from palate.predictors.personalized import PersonalizedPredictor
from palate.progress import counting_bar
from palate.runs import RunFolder, check_run, open_run
from palate.schema import Examples
from palate.tasks import load_task
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.progress import TrainingReport
from palate.training.trainer import PersonalizedTrainer

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.personalized import PersonalizedModel
    from palate.tasks import CategoryPreference

NORMED = 64
"""Dev users whose prompts are measured at every evaluation."""
CURVE = "curve.json"
"""In a run's ``logs``: the loss and the dev score by step."""


def train(
    recipe: Recipe,
    out: Path,
    report: Callable[[str], None] | None = None,
    progress: bool = False,
) -> Path:
    """Train the recipe's model and return the run's folder.

    A run that was interrupted goes on from its last checkpoint with the same batches and the same losses; one that
    is finished is left as it is. ``report`` is told what happens; ``progress`` shows bars. Started by ``accelerate
    launch`` or ``torchrun`` it trains on all their processes, each with a batch of its own.
    """
    tell = report or _say_nothing
    keep_freed_memory()
    devices = PartialState(cpu=not torch.cuda.is_available())
    if not devices.is_main_process:
        tell, progress = _say_nothing, False
    if devices.num_processes > 1 and recipe.train.minutes is not None:
        raise RecipeError("train.minutes is for one process, whose clock it follows; set train.steps alone")
    with locked(out) if devices.is_main_process else nullcontext():  # all processes are one training
        dataset = load_dataset(recipe.data.path)
        if devices.is_main_process:
            check_run(out, recipe, dataset.info)
        devices.wait_for_everyone()
        run = RunFolder(out)
        if run.model.is_dir():
            tell(f"{out} is finished already")
        else:
            _train_model(recipe, run, dataset, tell, progress)
        devices.wait_for_everyone()
        if devices.is_main_process:
            _close(run)
    return out


def _close(run: RunFolder) -> None:
    """Remove what a finished run needs no more; also of one that was cut after its model was saved."""
    with telling_failed_writes(run.path):
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        remove_leftovers(run.path)
        if run.manifest.ended is None:
            run.finish()


@contextmanager
def _opened(recipe: Recipe, run: RunFolder, dataset: Dataset) -> Iterator[None]:
    """Make the run's folder when all that could be refused has been; a start that fails leaves no folder."""
    devices = PartialState()
    if devices.is_main_process:
        open_run(run.path, recipe, dataset.info)
    devices.wait_for_everyone()
    try:
        with telling_failed_writes(run.path):
            yield
    except PalateError:
        if devices.is_main_process:
            run.discard()
        raise


def _say_nothing(line: str) -> None:
    """For processes beside the main one, and callers who do not listen."""


def _train_model(
    recipe: Recipe, run: RunFolder, dataset: Dataset, tell: Callable[[str], None], progress: bool
) -> None:
    """Train, from the last checkpoint if there is one, and save the model with the best dev score."""
    task = load_task(recipe.task, dataset.info)
    with counting_bar("encoding item texts", progress) as encoded, PartialState().main_process_first():
        table = build_table(recipe, dataset, encoded)
    model = build_model(recipe, dataset, task, table)
    tell(_described(model, dataset))
    if recipe.train.steps == 0:
        with _opened(recipe, run, dataset):
            if PartialState().is_main_process:
                model.eval().save_pretrained(run.model)
        return
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(model.backbone)
    windows = recipe.train.evaluate_windows or (recipe.evaluate.window,)
    examples = [_dev_examples(recipe, dataset, task, window) for window in windows]
    clock = Clock(recipe.train)
    batches = TrainingBatches(recipe, dataset, task, model, clock)
    with _opened(recipe, run, dataset):
        _run_trainer(_trainer(recipe, run, task, model, examples, batches, clock), run, model, tell, progress)


def _run_trainer(
    trainer: PersonalizedTrainer,
    run: RunFolder,
    model: PersonalizedModel,
    tell: Callable[[str], None],
    progress: bool,
) -> None:
    trainer.add_callback(TrainingReport(trainer.clock, tell, progress))
    if trainer.is_world_process_zero():
        trainer.add_callback(TensorBoardCallback(SummaryWriter(str(run.logs))))
    checkpoint = trainer.resume()
    if checkpoint:
        tell(f"resuming from {Path(checkpoint).name}")
    trainer.train(resume_from_checkpoint=checkpoint)
    model.load_weights(trainer.best_weights)
    tell(f"best dev F1 {trainer.best_score:.3f} at step {trainer.best_step}")
    if trainer.is_world_process_zero():
        _save_curve(run, trainer.state.log_history, trainer.clock.seconds)
        model.eval().save_pretrained(run.model)


def _trainer(
    recipe: Recipe,
    run: RunFolder,
    task: CategoryPreference,
    model: PersonalizedModel,
    examples: list[Examples],
    batches: TrainingBatches,
    clock: Clock,
) -> PersonalizedTrainer:
    predictor = PersonalizedPredictor(model, recipe.name, recipe.evaluate.batch_size)
    clock.restart(0.0)
    return PersonalizedTrainer(
        model,
        recipe.train,
        _arguments(recipe, run),
        batches,
        clock,
        score=lambda: mean(_liked_f1(predictor, one, task) for one in examples),
        norms=lambda: _lengths(model, examples[0]),
    )


def _lengths(model: PersonalizedModel, examples: Examples) -> dict[str, float]:
    """How long tokens, task prompt and user prompts are on average; nothing where the history is text."""
    if model.reads_text:
        return {}
    norms = prompt_norms(model, examples.windows[:NORMED].trimmed())
    return {name: norm.length for name, norm in norms.items() if not isnan(norm.length)}


def _dev_examples(recipe: Recipe, dataset: Dataset, task: CategoryPreference, window: int) -> Examples:
    examples = make_examples(dataset, task, "dev", window, recipe.windows.kind, seed=recipe.seed)
    first = slice(recipe.train.evaluate_users)
    return Examples(examples.user_index[first], examples.windows[first], examples.truth[first])


def _liked_f1(predictor: PersonalizedPredictor, examples: Examples, task: CategoryPreference) -> float:
    answers = predictor.predict(examples.user_index, examples.windows)
    labels = len(task.label_names)
    truth = membership(examples.truth.liked, labels)
    return weighted_f1(truth, membership(task.parse(answers).liked, labels))


def _arguments(recipe: Recipe, run: RunFolder) -> TrainingArguments:
    for chatty in ("transformers.trainer", "transformers.trainer_utils"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    settings = recipe.train
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=settings.steps,
        per_device_train_batch_size=1,  # an item of the training set is a whole batch
        gradient_accumulation_steps=settings.accumulate,
        max_grad_norm=settings.clip_norm,
        bf16=settings.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=recipe.seed,
        eval_strategy="steps",
        eval_steps=settings.evaluate_every,
        save_strategy="steps",
        save_steps=settings.evaluate_every,
        save_total_limit=2,
        logging_steps=max(1, min(settings.evaluate_every // 5, 100)),
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        average_tokens_across_devices=False,
        ddp_find_unused_parameters=settings.auxiliary_alone > 0,
    )


def _described(model: PersonalizedModel, dataset: Dataset) -> str:
    encoder = sum(weight.numel() for weight in model.user_encoder.parameters())
    return (
        f"training on {len(dataset.users('train')):,} users of {dataset.info.name}: "
        f"user encoder {encoder / 1e6:.1f}M, backbone {model.backbone.num_parameters() / 1e6:.1f}M parameters"
    )


def _save_curve(run: RunFolder, history: list[dict[str, float]], seconds: float) -> None:
    losses = [{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row]
    scores = [
        {
            "step": row["step"],
            "minutes": row["eval_minutes"],
            "f1": row["eval_f1"],
            "norms": {
                name.removeprefix("eval_norm_"): norm
                for name, norm in row.items()
                if name.startswith("eval_norm_")
            },
        }
        for row in history
        if "eval_f1" in row
    ]
    write_json(run.logs / CURVE, {"seconds": seconds, "losses": losses, "scores": scores})
