"""What the demo measures: both models, their controls and the references, on the test users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate.comparison import Options, compare
from palate.data.dataset import Dataset, load_dataset
from palate.data.histories import make_examples
from palate.evaluate import Evaluation
from palate.runs import RunFolder
from palate.schema import Examples
from palate.tasks import Task, load_task

MAIN, PAPER = "main", "paper"
"""The demo's two runs, by folder: the palate model, and the paper's."""
LENGTHS = (5, 10, 20, 30, 50, 75, 100)
DRAWS = 3
"""Windows of each test user and length; the score at a length is the mean over them."""


@dataclass(frozen=True, eq=False)
class DemoResults:
    """What the report is drawn from."""

    runs: dict[str, RunFolder]
    dataset: Dataset
    task: Task
    examples: Examples
    evaluation: Evaluation
    liked_f1: dict[str, list[float]]  # by predictor, at each of LENGTHS


def measure(out: Path) -> DemoResults:
    """Score the finished runs and the references at the recipe's window, and by the window's length."""
    runs = {name: RunFolder(out / name) for name in (MAIN, PAPER)}
    folders = [str(run.path) for run in runs.values()]
    evaluation = compare(["population", *folders], Options())
    recipe, setting = runs[MAIN].recipe, evaluation.setting
    dataset = load_dataset(recipe.data.path)
    task = load_task(recipe.task, dataset.info)
    examples = make_examples(dataset, task, setting.split, setting.window, setting.kind, setting.seed)
    at_length = [_mean_liked_f1([*folders, "rule", "shrinkage"], length) for length in LENGTHS]
    liked_f1 = {name: [f1[name] for f1 in at_length] for name in at_length[0]}
    return DemoResults(runs, dataset, task, examples, evaluation, liked_f1)


def _mean_liked_f1(entries: list[str], length: int) -> dict[str, float]:
    mean: dict[str, float] = {}
    for seed in range(DRAWS):
        for one in compare(entries, Options(window=length, seed=seed, bare=True)).predictors:
            mean[one.name] = mean.get(one.name, 0.0) + one.scores.liked.f1.value / DRAWS
    return mean
