"""Trains and measures one cell, in two processes, so that their peak memory is measured separately."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import send_to_device

from palate.config.load import load_recipe
from palate.evaluation.compare import Comparison, Options, prepare_comparison
from palate.evaluation.evaluate import PredictorScores, Setting, write_evaluation
from palate.evaluation.predictors.model_controls import controls
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.generative.categories import CategoryAnswers
from palate.generative.files import trained_steps
from palate.generative.p5_training import first_loss
from palate.reproduce.cost import AnswerCost, TrainingCost, answer_cost, step_multiply_adds
from palate.runs.run import RunFolder
from palate.system.files import sha256_of, write_text
from palate.system.records import Frozen, read_record
from palate.system.stages import Stages
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.start import train_recipe

if TYPE_CHECKING:
    from torch import Tensor

    from palate.config.recipe import Recipe
    from palate.model.model import PersonalizedModel

RECIPE, RUN, STAGES, RESULT = "recipe.yaml", "run", "stages-{rank}.json", "result.json"


class CellResult(Frozen):
    """Contents of ``result.json`` of a finished cell."""

    format: int = 3
    cell: str
    seed: int
    setting: Setting
    users: int
    scores: PredictorScores
    controls: dict[str, PredictorScores]
    """Scores with a wrong history, by the name of the control, such as "another user's history"."""
    training: TrainingCost
    answer: AnswerCost
    parameters: int
    device: str | None = None
    """Where it was trained and asked."""
    recipe_digest: str
    """SHA-256 of the cell's ``recipe.yaml``, which has all settings."""
    data_fingerprint: str
    commit: str | None


def train_cell(folder: Path, device: str = "auto") -> None:
    """Train the recipe in ``folder``, resuming an interrupted training.

    Each process of a joint training writes its own record. P5 is trained by the first process only.
    """
    recipe = load_recipe(folder / RECIPE)
    if recipe.generative is not None and os.environ.get("RANK", "0") != "0":
        return
    stages = Stages(folder / STAGES.format(rank=os.environ.get("RANK", "0")))
    with stages.timed("training"):
        train_recipe(recipe, folder / RUN, report=log, device=device)


def measure_cell(folder: Path, device: str = "auto") -> None:
    """Evaluate the trained model and its controls, and write ``result.json``.

    The windows are drawn with the cell's seed, so they differ between seeds.
    """
    run, recipe = RunFolder(folder / RUN), load_recipe(folder / RECIPE)
    options = Options(bare=True, device=device, users="all", seed=recipe.seed)
    it = prepare_comparison([str(run.path)], options)
    predictor = it.predictors[0]
    assert isinstance(predictor, PersonalizedPredictor | CategoryAnswers)
    system = predictor.model if isinstance(predictor, PersonalizedPredictor) else predictor
    answer = answer_cost(system, it.examples.windows)  # first, so that peak memory is that of answering
    asked = [predictor, *controls(predictor, it.dataset, it.setting)]
    evaluation = replace(it, predictors=asked).evaluate()
    write_evaluation(evaluation, folder)
    own, *wrong = evaluation.predictors
    result = CellResult(
        cell=folder.name,
        seed=recipe.seed,
        setting=evaluation.setting,
        users=evaluation.users,
        scores=own,
        controls={one.name.removeprefix(f"{own.name}, "): one for one in wrong},
        training=_training_cost(folder, it, predictor),
        answer=answer,
        parameters=sum(weight.numel() for weight in predictor.model.parameters()),
        device=it.device,
        recipe_digest=sha256_of(folder / RECIPE),
        data_fingerprint=run.manifest.data_fingerprint,
        commit=run.manifest.commit,
    )
    write_text(folder / RESULT, result.model_dump_json(indent=2) + "\n")


def training_minutes(folder: Path) -> float:
    """Return the processor time of a cell's training in minutes, the maximum over its processes."""
    return max(one.processor_seconds()["training"] for one in _stages(folder)) / 60


def _stages(folder: Path) -> list[Stages]:
    """Load the records of a cell's training processes."""
    return [Stages(path) for path in sorted(folder.glob(STAGES.format(rank="*")))]


def _training_cost(
    folder: Path, it: Comparison, predictor: PersonalizedPredictor | CategoryAnswers
) -> TrainingCost:
    recipe, run = load_recipe(folder / RECIPE), RunFolder(folder / RUN)
    stages = _stages(folder)
    if isinstance(predictor, PersonalizedPredictor):
        steps = 0 if run.curve is None else run.curve.steps
        loss = partial(_batch_loss, recipe, it, predictor.model)
    else:
        steps = trained_steps(run.path)
        loss = partial(first_loss, recipe, it.dataset, predictor.recommender)
    return TrainingCost(
        steps=steps,
        windows=steps * recipe.train.windows_per_step,
        minutes=max(one.seconds()["training"] for one in stages) / 60,
        processor_minutes=sum(one.processor_seconds()["training"] for one in stages) / 60,
        step_multiply_adds=step_multiply_adds(predictor.model, loss) if steps else 0.0,
        memory_gib=max(one.peak_memory_gib() for one in stages),
        processes=len(stages),
    )


def _batch_loss(recipe: Recipe, it: Comparison, model: PersonalizedModel) -> Tensor:
    """Compute the loss of the first training batch."""
    batch = TrainingBatches(recipe, it.dataset, it.task, model, Clock(recipe.train))[0]
    del batch["liked"], batch["disliked"], batch["kinds"]
    loss: Tensor = model(**send_to_device(batch, model.device))["loss"]
    return loss


def log(line: str) -> None:
    """Write a line to the log of the cell's process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def read_result(folder: Path) -> CellResult | None:
    """Load the result of a cell; None if unfinished. Raises :class:`DataError` if it is damaged."""
    path = folder / RESULT
    if not path.is_file():
        return None
    return read_record(CellResult, path, "the file is missing", "remove it to measure the cell again")
