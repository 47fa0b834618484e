"""A frozen language model with user prompts, against the same one with the history as text: quality and cost.

    python benchmarks/history_as_text.py RUN TEXT_RUN... [--users 64] [--window 50] [--timed 4] [--out FILE.json]

Every run answers the task's own instruction about the same users and windows; one with user prompts also about another
user in the place of each. Times are of single users, one after the other, each run in its turn on the same machine.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from palate.data.dataset import Dataset, load_dataset
from palate.data.histories import make_examples
from palate.machine import describe_machine
from palate.metrics import membership, weighted_scores
from palate.model.personalized import PersonalizedModel, load_model
from palate.predictors.personalized import PersonalizedPredictor
from palate.runs import load_run
from palate.schema import Examples, Preferences
from palate.tasks import CategoryPreference, load_task


def f1(task: CategoryPreference, truth: Preferences, answers: list[str]) -> tuple[float, float]:
    said, labels = task.parse(answers), len(task.label_names)
    liked, disliked = (
        weighted_scores(membership(true, labels), membership(read, labels))[2]
        for true, read in ((truth.liked, said.liked), (truth.disliked, said.disliked))
    )
    return liked, disliked


def milliseconds_each(model: PersonalizedModel, examples: Examples, timed: int) -> float:
    times = []
    for row in range(timed):
        start = time.perf_counter()
        model.answer(examples.windows[row : row + 1].trimmed())
        times.append(1000 * (time.perf_counter() - start))
    return median(times[1:] or times)


def measured(
    run: Path, dataset: Dataset, task: CategoryPreference, examples: Examples, timed: int
) -> dict[str, object]:
    model = load_model(run)
    predictor = PersonalizedPredictor(model, run.name, 16 if not model.reads_text else 4)
    other = np.roll(np.arange(len(examples)), 1)
    answers = predictor.predict(examples.user_index, examples.windows)
    liked, disliked = f1(task, examples.truth, answers)
    wrong = f1(task, examples.truth, predictor.predict(examples.user_index[other], examples.windows[other]))[
        0
    ]
    vectors = [
        float(model.prompt(examples.windows[row : row + 1]).lengths[0])
        for row in range(min(16, len(examples)))
    ]
    read = task.parse(answers)
    unread = (np.concatenate([read.liked, read.disliked], axis=1).max(axis=1) < 0).mean()
    return {
        "run": run.name,
        "liked_f1": liked,
        "disliked_f1": disliked,
        "another_users_liked_f1": wrong,
        "no_label": float(unread),
        "input_vectors": sum(vectors) / len(vectors),
        "milliseconds": milliseconds_each(model, examples, timed),
        "example": answers[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--timed", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    recipe = load_run(arguments.runs[0]).recipe
    dataset = load_dataset(recipe.data.path)
    task = load_task(recipe.task, dataset.info)
    every = make_examples(dataset, task, "test", arguments.window, recipe.windows.kind, arguments.seed)
    some = slice(arguments.users)
    examples = Examples(every.user_index[some], every.windows[some], every.truth[some])
    rows = []
    for run in arguments.runs:
        rows.append(measured(run, dataset, task, examples, arguments.timed))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        found = {"machine": describe_machine().model_dump(mode="json"), "users": len(examples), "runs": rows}
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
