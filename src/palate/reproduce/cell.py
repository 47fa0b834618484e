"""One cell, in a process of its own so that its peak memory is its own: trained, asked, measured, kept."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.comparison import Options, prepare_comparison
from palate.errors import DataError, first_fault
from palate.evaluate import PredictorScores, Setting, evaluate
from palate.files import write_text
from palate.predictors.base import Predictor
from palate.predictors.controls import AnotherUsersHistory
from palate.predictors.personalized import PersonalizedPredictor
from palate.recipes import load_recipe
from palate.reproduce.cost import AnswerCost, answer_cost
from palate.runs import RunFolder
from palate.stages import Stages
from palate.train import train

RECIPE, RUN, RESULT = "recipe.yaml", "run", "result.json"


class CellResult(BaseModel):
    """What ``result.json`` of a finished cell holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    cell: str
    setting: Setting
    users: int
    scores: PredictorScores
    control: PredictorScores
    """Shown another user's history."""
    train_minutes: float
    train_memory_gib: float
    """Peak of the process that trained."""
    answer: AnswerCost
    parameters: int
    data_fingerprint: str
    commit: str | None


def run_cell(folder: Path) -> CellResult:
    """Train and measure the recipe that lies in ``folder``, going on where an earlier process stopped."""
    recipe, stages = load_recipe(folder / RECIPE), Stages(folder / "stages.json")
    with stages.timed("training"):
        run = RunFolder(train(recipe, folder / RUN, report=_log))
    it = prepare_comparison([str(run.path)], Options(bare=True))
    predictor = it.predictors[0]
    assert isinstance(predictor, PersonalizedPredictor)
    asked: list[Predictor] = [AnotherUsersHistory(predictor), predictor]
    evaluation = evaluate(asked, it.examples, it.task, it.dataset, it.setting)
    result = CellResult(
        cell=folder.name,
        setting=evaluation.setting,
        users=evaluation.users,
        scores=evaluation.predictors[1],
        control=evaluation.predictors[0],
        train_minutes=stages.seconds()["training"] / 60,
        train_memory_gib=stages.peak_memory_gib(),
        answer=answer_cost(predictor.model, it.examples.windows),
        parameters=sum(weight.numel() for weight in predictor.model.parameters()),
        data_fingerprint=run.manifest.data_fingerprint,
        commit=run.manifest.commit,
    )
    write_text(folder / RESULT, result.model_dump_json(indent=2) + "\n")
    return result


def _log(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def read_result(folder: Path) -> CellResult | None:
    """The result of a cell, or None while it is not finished; raises :class:`DataError` for a damaged one."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        return CellResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{first_fault(error)}; remove it, and the cell is measured again", path) from error
