"""What the demo measures: both models, their controls and the references, on the test users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.data.windows import make_examples
from palate.evaluation.compare import Comparison, Options, prepare_comparison
from palate.evaluation.evaluate import Evaluation, evaluate
from palate.evaluation.predictors.base import Predictor
from palate.runs.run import RunFolder

MAIN, PAPER = "main", "paper"
"""The demo's two runs, by folder: the palate model, and the paper's."""
LENGTHS = (5, 10, 20, 30, 50, 75, 100)
DRAWS = 3
"""Windows of each test user and length; the score at a length is the mean over them."""
BY_LENGTH = ("rule", "shrinkage", MAIN, PAPER)
"""Who is scored at every length."""


@dataclass(frozen=True, eq=False)
class DemoResults:
    """What the report is drawn from."""

    runs: dict[str, RunFolder]
    comparison: Comparison
    evaluation: Evaluation
    liked_f1: dict[str, list[float]]  # by predictor, at each of LENGTHS


def measure(out: Path) -> DemoResults:
    """Score the finished runs and the references at the recipe's window, and by the window's length."""
    runs = {name: RunFolder(out / name) for name in (MAIN, PAPER)}
    it = prepare_comparison(["population", *(str(run.path) for run in runs.values())], Options())
    evaluation = it.evaluate()
    predictors = [one for one in it.predictors if one.name in BY_LENGTH]
    at_length = [_mean_liked_f1(it, predictors, length) for length in LENGTHS]
    return DemoResults(runs, it, evaluation, {name: [f1[name] for f1 in at_length] for name in at_length[0]})


def _mean_liked_f1(it: Comparison, predictors: Sequence[Predictor], length: int) -> dict[str, float]:
    mean = {one.name: 0.0 for one in predictors}
    for seed in range(DRAWS):
        setting = it.setting.model_copy(update={"window": length, "seed": seed})
        examples = make_examples(it.dataset, it.task, setting.split, length, setting.kind, seed)
        for one in evaluate(predictors, examples, it.task, it.dataset, setting).predictors:
            mean[one.name] += one.scores.liked.f1.value / DRAWS
    return mean
