"""One cell: trained in one process and measured in another, for separate memory measurements."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from palate.config.load import load_recipe
from palate.evaluation.compare import Comparison, Options, prepare_comparison
from palate.evaluation.evaluate import PredictorScores, Setting, write_evaluation
from palate.evaluation.predictors.model_controls import controls
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.reproduce.cost import AnswerCost, TrainingCost, answer_cost, step_multiply_adds
from palate.reproduce.history_scores import HistoryScore, scores_by_history
from palate.runs.run import RunFolder
from palate.system.files import write_text
from palate.system.records import Frozen, read_record
from palate.system.stages import Stages
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from palate.training.train import train_run

RECIPE, RUN, STAGES, RESULT = "recipe.yaml", "run", "stages.json", "result.json"


class CellResult(Frozen):
    """Contents of ``result.json`` of a finished cell."""

    format: int = 2
    cell: str
    setting: Setting
    users: int
    scores: PredictorScores
    controls: dict[str, PredictorScores]
    """By the name of what was wrong: "another user's history", …"""
    by_history: tuple[HistoryScore, ...]
    training: TrainingCost
    answer: AnswerCost
    parameters: int
    device: str | None = None
    """Where it was trained and asked; None in results of earlier versions."""
    data_fingerprint: str
    commit: str | None


def train_cell(folder: Path, device: str = "auto") -> None:
    """Train the recipe that lies in ``folder``, going on where an earlier process stopped."""
    recipe, stages = load_recipe(folder / RECIPE), Stages(folder / STAGES)
    with stages.timed("training"):
        train_run(recipe, folder / RUN, report=_log, device=device)


def measure_cell(folder: Path, device: str = "auto") -> None:
    """Ask the model that :func:`train_cell` left, and its controls, and write ``result.json``."""
    run = RunFolder(folder / RUN)
    it = prepare_comparison([str(run.path)], Options(bare=True, device=device, users="all"))
    predictor = it.predictors[0]
    assert isinstance(predictor, PersonalizedPredictor)
    answer = answer_cost(predictor.model, it.examples.windows)  # first, while the process is small
    asked = [predictor, *controls(predictor, it.dataset, it.setting)]
    evaluation = replace(it, predictors=asked).evaluate()
    write_evaluation(evaluation, folder)
    own, *wrong = evaluation.predictors
    answers = [one.answer for one in evaluation.predictions if one.predictor == own.name]
    result = CellResult(
        cell=folder.name,
        setting=evaluation.setting,
        users=evaluation.users,
        scores=own,
        controls={one.name.removeprefix(f"{own.name}, "): one for one in wrong},
        by_history=scores_by_history(answers, it.examples, it.task, it.dataset),
        training=_training_cost(folder, it, predictor),
        answer=answer,
        parameters=sum(weight.numel() for weight in predictor.model.parameters()),
        device=it.device,
        data_fingerprint=run.manifest.data_fingerprint,
        commit=run.manifest.commit,
    )
    write_text(folder / RESULT, result.model_dump_json(indent=2) + "\n")


STEPS: tuple[Callable[..., None], ...] = (train_cell, measure_cell)
"""What is done with a cell's folder on a device, each in a process of its own."""


def _training_cost(folder: Path, it: Comparison, predictor: PersonalizedPredictor) -> TrainingCost:
    recipe, stages = load_recipe(folder / RECIPE), Stages(folder / STAGES)
    batches = TrainingBatches(recipe, it.dataset, it.task, predictor.model, Clock(recipe.train))
    curve = RunFolder(folder / RUN).curve
    steps = 0 if curve is None else curve.steps
    return TrainingCost(
        steps=steps,
        windows=steps * recipe.train.windows_per_step,
        minutes=stages.seconds()["training"] / 60,
        processor_minutes=stages.processor_seconds()["training"] / 60,
        step_multiply_adds=step_multiply_adds(predictor.model, batches) if steps else 0.0,
        memory_gib=stages.peak_memory_gib(),
    )


def _log(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def read_result(folder: Path) -> CellResult | None:
    """Load the result of a cell; None if unfinished. Raises :class:`DataError` if it is damaged."""
    path = folder / RESULT
    if not path.is_file():
        return None
    return read_record(CellResult, path, "the file is missing", "remove it, and the cell is measured again")
