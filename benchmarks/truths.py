"""Evaluates the references under every truth and label rule.

    python benchmarks/truths.py DATASET... [--window 5,20,50,100,200] [--boosting]

Prints a table per dataset and rule: liked and disliked F1 of test users with more interactions than the window, from
random windows, by truth; a dash if a window leaves no user. Data without times has no truth "future".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from palate.config.recipe import TaskSettings
from palate.data.dataset import Dataset, load_dataset
from palate.data.windows import make_examples
from palate.errors import DataError
from palate.evaluation.compare import Options
from palate.evaluation.evaluate import Evaluation
from palate.evaluation.write import score_windows
from palate.report.sheet import Sheet
from palate.schema import RULES, TRUTHS, LabelRule, Truth
from palate.tasks import load_task

REFERENCES = ["rule", "shrinkage", "counting", "population"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--window", default="5,20,50,100,200")
    parser.add_argument(
        "--boosting", action="store_true", help="include gradient boosting (a minute per window)"
    )
    arguments = parser.parse_args()
    windows = [int(one) for one in arguments.window.split(",")]
    names = [*REFERENCES, *(["boosting"] if arguments.boosting else [])]
    for path in arguments.datasets:
        dataset = load_dataset(path)
        for rule in RULES:
            if rule != "own-mean" or dataset.info.feedback == "ratings":
                print(sheet(dataset, rule, names, windows).markdown())


def sheet(dataset: Dataset, rule: LabelRule, names: list[str], windows: list[int]) -> Sheet:
    """Score the references under one rule, with all truths that the dataset supports."""
    rows: list[list[str]] = []
    for truth in TRUTHS:
        if truth == "future" and not dataset.info.has_times:
            continue
        found = {window: scored(dataset, rule, truth, names, window) for window in windows}
        rows += [[name, truth, *(cell(found[window], name) for window in windows)] for name in names]
        users = (found[window] for window in windows)
        rows.append(["(users)", truth, *("–" if one is None else str(one.users) for one in users)])
    words = load_task(TaskSettings(rule=rule), dataset.info).rule_in_words
    return Sheet(f"{dataset.info.name}, {words}", ["predictor", "truth", *map(str, windows)], rows)


def scored(
    dataset: Dataset, rule: LabelRule, truth: Truth, names: list[str], window: int
) -> Evaluation | None:
    """Score the references at one window size; None if no user has more interactions."""
    task = load_task(TaskSettings(rule=rule), dataset.info)
    try:
        make_examples(dataset, task, "test", window, "random", 0, "partly", truth)
    except DataError:
        return None
    options = Options(data=dataset, window_kind="random", rule=rule, truths=(truth,))
    return score_windows(names, options, [window]).evaluations[0]


def cell(evaluation: Evaluation | None, name: str) -> str:
    """Format liked and disliked F1."""
    if evaluation is None:
        return "–"
    (one,) = [one for one in evaluation.predictors if one.name == name]
    return f"{one.scores.liked.f1.value:.3f} / {one.scores.disliked.f1.value:.3f}"


if __name__ == "__main__":
    main()
