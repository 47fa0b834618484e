"""Training of a recipe into a run folder, with resumption from the last checkpoint."""

from __future__ import annotations

import copy
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState

from palate.backbones.base import checkpoint_activations
from palate.config.recipe import ModelSettings, Recipe
from palate.config.registry import user_encoders
from palate.data.dataset import load_dataset
from palate.encoders.catalogue_free import UniversalEncoder
from palate.errors import PalateError, RecipeError
from palate.evaluation.dev import DevUsers
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.predictors.view import ViewInTemplate
from palate.items.encoder import ItemEncoder
from palate.items.event_texts import with_event_texts
from palate.model.build import build_backbone, build_model, build_table
from palate.model.config import model_settings
from palate.model.record import DevScores, TrainingRecord
from palate.runs.curve import Curve, DevPoint, LossPoint
from palate.runs.run import RunFolder, check_run, open_run
from palate.system.device import describe_device
from palate.system.extras import missing_modules
from palate.system.files import remove_leftovers, telling_failed_writes, write_json
from palate.system.locks import locked
from palate.system.machine import keep_freed_memory, reproducible
from palate.system.places import rooted
from palate.system.progress import counting_bar
from palate.tasks import load_task
from palate.tasks.questions import check_kinds
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.devices import OneDevice, training_device
from palate.training.layers import compile_layers
from palate.training.norms import prompt_norms
from palate.training.progress import TrainingReport
from palate.training.sharding import shard_parameters
from palate.training.trackers import check_trackers
from palate.training.trainer import PersonalizedTrainer
from palate.training.tuning import TuningBatches

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.evaluation.predictors.base import Predictor
    from palate.model.model import PersonalizedModel
    from palate.schema import Examples, WindowKind
    from palate.tasks import CategoryPreference

NORMED = 64
"""Number of dev users whose prompt norms are measured at each evaluation."""


def train_run(
    recipe: Recipe,
    out: Path,
    report: Callable[[str], None] | None = None,
    progress: bool = False,
    device: str | torch.device = "auto",
    dataset: Dataset | None = None,
) -> Path:
    """Train the recipe's model and return the run's folder.

    An interrupted run resumes from its last checkpoint with the same batches and losses; a finished run is left as it
    is. Under ``accelerate launch`` or ``torchrun`` all processes train together, each with its own batch and device.
    The same seed, number of threads and kind of processor give bitwise equal weights, unless the recipe has
    ``train.max_minutes``.

    Args:
        recipe: The recipe.
        out: The run's folder, new or of the same recipe.
        report: Called with progress messages, one line each.
        progress: Show progress bars on stderr.
        device: Device of the training; "auto" is the first GPU if there is one, else the CPU.
        dataset: The dataset of the recipe's ``data.path``; loaded from there if None.

    Returns:
        The run's folder.

    Raises:
        RecipeError: A setting does not fit the data or the model.
        DataError: The dataset cannot be read.
        MismatchError: There is no such device, the backbone cannot be loaded, or the run was trained on other data.
        OutputError: ``out`` cannot be written, or holds something else.
        TrainingError: The loss, a gradient or a weight is no longer finite.
    """
    recipe = rooted(recipe)
    keep_freed_memory()
    place = training_device(device)
    with reproducible(recipe.train.threads, place):
        return _train(recipe, out, report or _say_nothing, progress, place, dataset)


def _train(
    recipe: Recipe,
    out: Path,
    tell: Callable[[str], None],
    progress: bool,
    device: torch.device,
    dataset: Dataset | None,
) -> Path:
    devices = PartialState()
    if not devices.is_main_process:
        tell, progress = _say_nothing, False
    if devices.num_processes > 1 and recipe.train.max_minutes is not None:
        raise RecipeError(
            "train.max_minutes is supported for one process only, whose clock it follows; set train.max_steps instead"
        )
    with (
        locked(out) if devices.is_main_process else nullcontext()
    ):  # one lock for all processes of the training
        dataset = dataset or load_dataset(recipe.data.path)
        if devices.is_main_process:
            check_run(out, recipe, dataset.info)
        devices.wait_for_everyone()
        run = RunFolder(out)
        if run.model.is_dir():
            tell(f"{out} is finished already")
            _warn(model_settings(out).training, tell)
        else:
            _train_model(recipe, run, dataset, tell, progress, device)
        devices.wait_for_everyone()
        if devices.is_main_process:
            _close(run)
    return out


def _close(run: RunFolder) -> None:
    """Remove the checkpoints of a finished run, also of one that was interrupted after saving its model."""
    with telling_failed_writes(run.path):
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        remove_leftovers(run.path)
        if run.manifest.ended is None:
            run.finish()


@contextmanager
def _opened(recipe: Recipe, run: RunFolder, dataset: Dataset, device: torch.device) -> Iterator[None]:
    """Create the run folder once all checks have passed; a failed start leaves no folder."""
    devices = PartialState()
    if devices.is_main_process:
        open_run(run.path, recipe, dataset.info, describe_device(device))
    devices.wait_for_everyone()
    try:
        with telling_failed_writes(run.path), _quiet_writers():
            yield
    except PalateError:
        if devices.is_main_process:
            run.discard()
        raise


@contextmanager
def _quiet_writers() -> Iterator[None]:
    """Suppress the tracebacks of writer threads, whose errors reach the main thread as well."""
    loud = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            loud(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = loud


def _say_nothing(line: str) -> None:
    """Discard a message: the report of secondary processes, or if no ``report`` is given."""


def _train_model(
    recipe: Recipe,
    run: RunFolder,
    dataset: Dataset,
    tell: Callable[[str], None],
    progress: bool,
    device: torch.device,
) -> None:
    """Train, resuming from the last checkpoint if there is one, and save the model with the best dev score."""
    shared = _of_this_process(recipe)
    check_trackers(recipe.train.report_to)
    task = load_task(recipe.task, dataset.info)
    check_kinds(recipe.train.questions, dataset)
    _check_answers(recipe)
    backbone = build_backbone(recipe, dataset, task, tell)
    with counting_bar("encoding item texts", progress) as encoded, PartialState().main_process_first():
        table = build_table(recipe, dataset, encoded, device)
        if recipe.model.event_texts:
            dataset = with_event_texts(dataset, ItemEncoder(recipe.items, device), encoded)
    model = build_model(recipe, dataset, task, table, backbone)
    tell(_described(model, dataset, device))
    if recipe.train.max_steps == 0:
        with _opened(recipe, run, dataset, device):
            if PartialState().is_main_process:
                model.eval().save_pretrained(run.model)
        return
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(model.backbone)
    clock, dev = Clock(recipe.train), DevUsers(recipe, dataset, task)
    batches = batches_of(shared, dataset, task, model, clock)
    predictor = PersonalizedPredictor.by_recipe(model, recipe.name, recipe)
    with _opened(recipe, run, dataset, device):
        trainer = _trainer(shared, run, predictor, dev, batches, clock, device)
        _run_trainer(trainer, run, tell, progress, model=recipe.model)
        if trainer.is_world_process_zero():
            predictor = _calibrated(predictor, dataset, recipe.windows.kind)
            record = _record(recipe, dataset, trainer, dev.compared(_scored(recipe, predictor)))
            _finish(run, predictor.model, trainer, record, tell)


def _of_this_process(recipe: Recipe) -> Recipe:
    """Return the recipe with this process's share of the global batch; raises :class:`RecipeError` if it has none."""
    try:
        share = recipe.train.shared_by(PartialState().num_processes)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return recipe.model_copy(update={"train": share})


def batches_of(
    recipe: Recipe, dataset: Dataset, task: CategoryPreference, model: PersonalizedModel, clock: Clock
) -> TrainingBatches | TuningBatches:
    """Create the training batches: precomputed ones if only the weights of a catalogue-free network are trained."""
    given = recipe.model
    alone = given.start is not None and given.exchanged_backbone is None and given.added_latent is None
    if alone and isinstance(model.user_encoder, UniversalEncoder):
        return TuningBatches(recipe, dataset, task, model.user_encoder.network)
    return TrainingBatches(recipe, dataset, task, model, clock)


def _check_answers(recipe: Recipe) -> None:
    """Raise :class:`RecipeError` if ``train.answers`` needs decisions that the user encoder does not make."""
    kind = recipe.model.user_encoder.kind
    decides = recipe.model.start is not None or user_encoders.find(kind).reads == "categories"
    if recipe.train.answers == "decided" and not decides:
        raise RecipeError(
            f"train.answers is 'decided', and a {kind!r} user encoder makes no decisions; set it to 'view' or 'truth'"
        )


def _run_trainer(
    trainer: PersonalizedTrainer,
    run: RunFolder,
    tell: Callable[[str], None],
    progress: bool,
    model: ModelSettings,
) -> None:
    """Train, and load the weights with the best dev score, which may be the initial ones.

    Weights that can answer already, of ``model.start``, are replaced only by those that are better beyond chance.
    """
    shown = TrainingReport(trainer.clock, tell, progress)
    trainer.add_callback(shown)
    if trainer.is_world_process_zero() and not missing_modules("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        trainer.add_callback(TensorBoardCallback(SummaryWriter(str(run.logs))))
    checkpoint = trainer.resume()
    if checkpoint:
        tell(f"resuming from {Path(checkpoint).name}")
    answers_already = model.exchanged_backbone is None
    if model.start is not None and (answers_already or not checkpoint):
        before = trainer.keep_start(strictly=answers_already, resumes=checkpoint is not None)
        if not checkpoint:
            tell(f"dev F1 {before:.3f} before the training")
    with shown:
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.plain.load_weights(trainer.best_weights)
    trainer.plain.eval()


def _calibrated(
    predictor: PersonalizedPredictor, dataset: Dataset, kind: WindowKind
) -> PersonalizedPredictor:
    """Recalibrate a model's decisions with its current user encoder on windows of this kind, if it makes any."""
    model = predictor.model
    if not model.settings.binds:
        return predictor
    return predictor.with_model(model.with_summary(model.summarised(dataset, kind=kind)))


def _trained_part(recipe: Recipe, predictor: PersonalizedPredictor, dev: DevUsers) -> Predictor:
    """Select the predictor whose dev score is compared between evaluations.

    It is the model or, if only the user encoder of ``model.start`` is trained, the encoder's decisions in a template:
    answers of a frozen backbone would add noise. An adapter to another backbone is scored by its answers.
    """
    calibrated = _calibrated(predictor, dev.dataset, recipe.windows.kind)
    if recipe.model.start is None or recipe.model.exchanged_backbone is not None:
        return _scored(recipe, calibrated)
    return ViewInTemplate(calibrated, dev.dataset, dev.task)


def _scored(recipe: Recipe, predictor: PersonalizedPredictor) -> PersonalizedPredictor:
    """Let an adapter to another backbone answer without the grammar.

    Under it, answers state the user encoder's decisions, whatever the adapter's weights.
    """
    if recipe.model.exchanged_backbone is None:
        return predictor
    model = copy.copy(predictor.model)
    model.constrained = False
    return predictor.with_model(model)


def _finish(
    run: RunFolder,
    model: PersonalizedModel,
    trainer: PersonalizedTrainer,
    record: TrainingRecord,
    tell: Callable[[str], None],
) -> None:
    """Report the result of the training and save the model with its record."""
    tell(_ended(record))
    _warn(record, tell)
    model.settings = model.settings.model_copy(update={"training": record})
    _save_curve(run, trainer.state.log_history, trainer.clock.seconds)
    model.save_pretrained(run.model)


def _trainer(
    recipe: Recipe,
    run: RunFolder,
    predictor: PersonalizedPredictor,
    dev: DevUsers,
    batches: TrainingBatches | TuningBatches,
    clock: Clock,
    device: torch.device,
) -> PersonalizedTrainer:
    clock.restart(0.0)
    plain = predictor.model
    model, processes = plain, PartialState().num_processes
    if recipe.train.shard_parameters and processes > 1:
        model = copy.deepcopy(plain)
        shard_parameters(model, model.backbone, device, processes)
    if recipe.train.torch_compile:
        for part in (model.user_encoder, model.backbone):
            compile_layers(part, recipe.train.torch_compile_backend)
    return PersonalizedTrainer(
        model,
        recipe.train,
        _arguments(recipe, run, device),
        batches,
        clock,
        score=lambda: dev.score(_trained_part(recipe, predictor, dev)),
        norms=lambda: _lengths(predictor.model, dev.examples[0]),
        plain=plain,
    )


def _record(recipe: Recipe, dataset: Dataset, trainer: PersonalizedTrainer, dev: DevScores) -> TrainingRecord:
    return TrainingRecord(
        steps=trainer.state.global_step,
        max_steps=recipe.train.max_steps,
        ended_by=trainer.ended_by,
        max_minutes=recipe.train.max_minutes,
        best_step=trainer.best_step,
        threads=torch.get_num_threads(),
        train_users=len(dataset.users("train")),
        learning_rate=recipe.train.learning_rate,
        longest_window=recipe.windows.longest,
        dev=dev,
    )


def _warn(record: TrainingRecord | None, tell: Callable[[str], None]) -> None:
    for warning in record.warnings() if record is not None else ():
        tell(f"warning: {warning}")


def _ended(record: TrainingRecord) -> str:
    dev = record.dev
    if record.best_step == 0:
        return f"no step was surely better than the start, which is kept: dev F1 {dev.f1:.3f}"
    other = "" if dev.another_user is None else f"{dev.another_user:.3f} with another user's history, "
    return (
        f"best dev F1 {dev.f1:.3f} at step {record.best_step:,} ({other}{dev.population:.3f} for the answer that "
        "suits most users)"
    )


def _lengths(model: PersonalizedModel, examples: Examples) -> dict[str, float]:
    """Measure the mean norms of tokens, task prompt and user prompts; empty for a text history."""
    if model.reads_text:
        return {}
    norms = prompt_norms(model, examples.windows[:NORMED].trimmed())
    return {name: norm.length for name, norm in norms.items() if not isnan(norm.length)}


def _arguments(recipe: Recipe, run: RunFolder, device: torch.device) -> OneDevice:
    for chatty in ("transformers.trainer", "transformers.trainer_utils"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    settings = recipe.train
    return OneDevice.on(
        device,
        output_dir=str(run.checkpoints),
        max_steps=settings.max_steps,
        per_device_train_batch_size=1,  # an item of the training set is a batch
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.bf16,
        seed=recipe.seed,
        eval_strategy="steps",
        eval_steps=settings.eval_steps,
        save_strategy="steps",
        save_steps=settings.eval_steps,
        save_total_limit=2,
        logging_nan_inf_filter=False,  # otherwise a non-finite loss is logged as 0
        logging_steps=max(1, min(settings.eval_steps // 5, 100)),
        report_to=list(settings.report_to),
        run_name=recipe.name,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=device.type == "cuda",
        average_tokens_across_devices=False,
        ddp_find_unused_parameters=settings.auxiliary_only_ratio > 0,
    )


def _described(model: PersonalizedModel, dataset: Dataset, device: torch.device) -> str:
    encoder = sum(weight.numel() for weight in model.user_encoder.parameters())
    return (
        f"training on {len(dataset.users('train')):,} users of {dataset.info.name}: "
        f"user encoder {encoder / 1e6:.1f}M, backbone {model.backbone.num_parameters() / 1e6:.1f}M parameters, "
        f"on {describe_device(device)}"
    )


def _save_curve(run: RunFolder, history: list[dict[str, float]], seconds: float) -> None:
    losses = [LossPoint(step=int(row["step"]), loss=row["loss"]) for row in history if "loss" in row]
    evaluated = [
        DevPoint(
            step=int(row["step"]),
            minutes=row["eval_minutes"],
            f1=row.get("eval_f1"),  # absent in the auxiliary-only phase
            norms={
                name.removeprefix("eval_norm_"): norm
                for name, norm in row.items()
                if name.startswith("eval_norm_")
            },
        )
        for row in history
        if "eval_minutes" in row
    ]
    curve = Curve(seconds=seconds, losses=tuple(losses), scores=tuple(evaluated))
    write_json(run.curve_file, curve.model_dump())
