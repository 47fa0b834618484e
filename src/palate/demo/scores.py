"""Evaluates the demo's models, controls and references."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from palate.evaluation.compare import Comparison, Options, prepare_comparison
from palate.evaluation.evaluate import Evaluation
from palate.runs.run import RunFolder

MAIN, PAPER = "main", "paper"
"""Folders of the demo's two runs: the palate model, and the paper's."""
LENGTHS = (5, 10, 20, 30, 50, 75, 100)
DRAWS = 3
"""Number of windows per test user and length; the score at a length is their mean."""
BY_LENGTH = ("rule", "shrinkage", MAIN, PAPER)
"""Predictors that are scored at every window length."""


@dataclass(frozen=True, eq=False)
class DemoResults:
    """Runs, evaluation and scores by window length of the demo."""

    runs: dict[str, RunFolder]
    comparison: Comparison
    evaluation: Evaluation
    liked_f1: dict[str, list[float]]  # by predictor, at each of LENGTHS


def measure(out: Path) -> DemoResults:
    """Score the finished runs and the references at the recipe's window length, and by window length."""
    runs = {name: RunFolder(out / name) for name in (MAIN, PAPER)}
    it = prepare_comparison(["population", *(str(run.path) for run in runs.values())], Options(users="all"))
    evaluation = it.evaluate()
    drawn = replace(it, predictors=[one for one in it.predictors if one.name in BY_LENGTH])
    at_length = [_mean_liked_f1(drawn, length) for length in LENGTHS]
    return DemoResults(runs, it, evaluation, {name: [f1[name] for f1 in at_length] for name in at_length[0]})


def _mean_liked_f1(it: Comparison, length: int) -> dict[str, float]:
    mean = {one.name: 0.0 for one in it.predictors}
    for seed in range(DRAWS):
        for one in it.at_window(length, seed).evaluate().predictors:
            mean[one.name] += one.scores.liked.f1.value / DRAWS
    return mean
