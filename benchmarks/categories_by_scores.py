"""Scores yes-no and pair questions about categories, answered from recommender states, against references.

    python benchmarks/categories_by_scores.py RUN [RUN ...] --window 50 --seed 0

The window holds a test user's newest ratings; the true answers come from all of the user's ratings. The same questions
are answered from the recommender's state of the window, from category means of the window shrunk towards the
population's, and from the population's means alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from palate.answers.tastes import CategoryTastes
from palate.config.recipe import TaskSettings
from palate.data.windows import draw_windows
from palate.evaluation.metrics import area_under_curve
from palate.evaluation.questions import References
from palate.recommend.files import load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Doubles, History
from palate.tasks import load_task
from palate.tasks.questions import Questioner, Questions
from palate.tasks.statistics import category_statistics
from palate.tasks.wordings import WORDINGS


def main() -> None:
    """Evaluate runs and print a row per kind and predictor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--draws", type=int, default=5, help="questions per kind and user")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| run | kind | questions | predictor | AUC, accuracy of pairs | of yes said | of yes true |")
    print("|---|---|---:|---|---:|---:|---:|")
    for run in given.runs:
        measure(run, given.window, given.draws, given.seed)


def measure(run: Path, window: int, draws: int, seed: int) -> None:
    """Evaluate one run."""
    tastes, dataset = CategoryTastes(load_recommender(run)), dataset_of(load_run(run))
    task = load_task(TaskSettings(), dataset.info)
    statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    users = np.repeat(dataset.users("test"), draws)
    rng = np.random.default_rng(seed)
    windows = draw_windows(dataset.interactions, users, window, "recent", rng)
    questioner = Questioner(task, dataset, dataset.interactions, statistics)
    references = References(dataset, task, statistics)
    labels = task.labels(statistics)[users]
    for kind in ("yes-no", "pair"):
        asked = questioner.draw(kind, WORDINGS[kind].trained[:1], users, windows, labels, rng)
        said = [("scores", by_scores(tastes, dataset.item_ids, asked))]
        said += [(name, replies.numbers) for name, replies in references.replies(kind, asked)]
        for name, number in said:
            right = (
                area_under_curve(asked.truth > 0.5, number)
                if kind == "yes-no"
                else float(np.mean((number > 0.5) == (asked.truth > 0.5)))
            )
            print(
                f"| {run.name} | {kind} | {len(number)} | {name} | {right:.3f} | {np.mean(number > 0.5):.1%} | "
                f"{asked.truth.mean():.1%} |",
                flush=True,
            )


def by_scores(tastes: CategoryTastes, item_ids: list[str], asked: Questions) -> Doubles:
    """Answer from states: P(yes), or 0.5 plus the second category's mean minus the first's."""
    values = tastes.recommender.facts.rating_values
    found = []
    for row in range(len(asked.asked)):
        at = slice(asked.windows.length[row])
        history = History(
            "",
            [item_ids[one] for one in asked.windows.item_index[row, at]],
            [values[one] for one in asked.windows.rating_index[row, at]],
            asked.windows.timestamp[row, at].tolist(),
        )
        rated = tastes.ratings(tastes.recommender.state(history))
        first, second = asked.categories[row].tolist()
        found.append(rated[first].chance if second < 0 else 0.5 + rated[second].mean - rated[first].mean)
    return np.array(found)


if __name__ == "__main__":
    main()
