"""Compares runs' answers to questions, one run per training seed, with references, paired over users.

    python benchmarks/questions.py RUN [RUN ...] --recommender RUN --users 240 --seed 0 --cache FOLDER

The runs are trained on the same data with different seeds. Test users are asked the first trained and the first
held-out wording of each kind, about the same items and categories for all. References answer the same questions:
those of ``palate questions``, the user encoder's view, and biased matrix factorisation fitted to the training users.
Intervals are percentiles of a bootstrap that resamples users and runs. An interrupted command resumes from the
cache, which keeps each run's answers by kind.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from palate.data.dataset import Dataset
from palate.data.windows import draw_windows
from palate.evaluation.metrics import area_under_curve
from palate.evaluation.questions import RecommendedRatings, References, replies_of, view_of
from palate.model.model import load_model
from palate.ranking.ratings.biased_mf import BiasedMf, BiasedMfSettings
from palate.recommend.files import load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Doubles, Ints, QuestionKind, Windows
from palate.system.files import write_text
from palate.tasks import load_task
from palate.tasks.questions import ITEM_KINDS, Questioner, Questions
from palate.tasks.statistics import category_statistics
from palate.tasks.wordings import wordings_of

KINDS: tuple[QuestionKind, ...] = ("yes-no", "pair", "rating", "item-yes-no", "item-pair")
METRICS = {
    "yes-no": "AUC",
    "item-yes-no": "AUC",
    "pair": "accuracy",
    "item-pair": "accuracy",
    "rating": "RMSE",
}
RESAMPLES = 2_000


def main() -> None:
    """Ask, and print a row per kind and predictor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--recommender", type=Path, help="predicts the ratings that items come with")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--users", type=int)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder of the answers so far")
    given = parser.parse_args()
    asking = Asking(given.runs, given.recommender, given.users, given.window, given.batch_size, given.seed)
    print("| kind | predictor | score | SD over runs | the runs' answers minus it (95%) |")
    print("|---|---|---:|---:|---:|")
    for kind in given.kinds:
        for line in asking.rows(kind, given.cache):
            print(line, flush=True)


class Asking:
    """Questions about the test users of the runs' data, and the answers of all predictors."""

    def __init__(
        self,
        runs: Sequence[Path],
        recommender: Path | None,
        users: int | None,
        window: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.runs, self.window, self.batch_size, self.seed = runs, window, batch_size, seed
        recipe = load_run(runs[0]).recipe
        self.dataset = dataset = dataset_of(load_run(runs[0]))
        self.task = load_task(recipe.task, dataset.info)
        self.users = dataset.users("test")[:users]
        statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
        self.preferences = self.task.labels(statistics)[self.users]
        self.references = References(dataset, self.task, statistics)
        self.factorised = Factorised(dataset)
        self.source = "item mean and user's offset" if recommender is None else str(recommender)
        rates = (
            self.references.rates
            if recommender is None
            else RecommendedRatings(load_recommender(recommender), dataset)
        )
        self.questioner = Questioner(self.task, dataset, dataset.interactions, statistics, rates)
        self.windows = draw_windows(
            dataset.interactions, self.users, window, recipe.windows.kind, np.random.default_rng(seed)
        )

    def rows(self, kind: QuestionKind, cache: Path | None) -> list[str]:
        """Answer the questions of one kind, and format their scores."""
        wordings = wordings_of(kind)
        several = [
            self.questioner.draw(
                kind,
                [wording],
                self.users,
                self.windows,
                self.preferences,
                np.random.default_rng([self.seed, KINDS.index(kind)]),
            )
            for wording in (wordings.trained[0], wordings.held_out[0])
        ]
        asked = several[0]
        answered, others = [], dict(self.references.replies(kind, asked))
        for run in self.runs:
            file = None if cache is None else cache / f"{run.name}-{kind}.json"
            answered.append(self.answers(run, kind, several, file))
        if kind in ITEM_KINDS:
            rated = np.stack([self.factorised(asked.windows, column) for column in asked.items.T], axis=1)
            others["biased MF"] = self.references.by_ratings(kind, rated, asked)
            others["expected ratings in the question"] = self.references.by_ratings(
                kind, asked.expected, asked
            )
        else:
            others.update(view_of(load_model(self.runs[0], device="cpu"), kind, asked, self.batch_size))
        trained = np.array([one[0] for one in answered])  # [R, B]
        held_out = np.array([one[1] for one in answered])
        lines = [
            self._row(kind, "**answers**, trained wording", trained, None, asked),
            self._row(kind, "**answers**, held-out wording", held_out, trained, asked),
        ]
        for name, replies in others.items():
            lines.append(self._row(kind, name, replies.numbers[None], trained, asked))
        return lines

    def answers(
        self, run: Path, kind: QuestionKind, several: Sequence[Questions], file: Path | None
    ) -> list[list[float]]:
        """Return a run's answers to both wordings, [2, B], from the cache if they are there."""
        key = [kind, self.source, len(self.users), self.window, self.seed, str(run)]
        if file is not None and file.is_file():
            known = json.loads(file.read_text())
            if known["key"] == key:
                found: list[list[float]] = known["answers"]
                return found
        given = replies_of(load_model(run, device="cpu"), several, self.batch_size)
        answers = [replies.numbers.tolist() for replies in given]
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps({"key": key, "answers": answers}))
        return answers

    def _row(
        self, kind: QuestionKind, name: str, numbers: Doubles, ours: Doubles | None, asked: Questions
    ) -> str:
        """Format the scores of a predictor [R, B], and the paired difference of ours [S, B] to it."""
        each = [score(kind, one, asked.truth) for one in numbers]
        spread = f"{np.std(each, ddof=1):.3f}" if len(each) > 1 else "–"
        row = f"| {kind}, {METRICS[kind]} of {len(asked.truth)} | {name} | {np.mean(each):.3f} | {spread} |"
        if ours is None:
            return f"{row} |"
        rng, differences = np.random.default_rng(self.seed), []
        for _ in range(RESAMPLES):
            users = rng.integers(len(asked.truth), size=len(asked.truth))
            drawn = ours[rng.integers(len(ours), size=len(ours))]
            theirs = numbers if len(numbers) == 1 else numbers[rng.integers(len(numbers), size=len(numbers))]
            mean = [
                np.mean([score(kind, one[users], asked.truth[users]) for one in of]) for of in (drawn, theirs)
            ]
            differences.append(mean[0] - mean[1])
        low, high = np.nanquantile(differences, [0.025, 0.975])
        value = np.mean([score(kind, one, asked.truth) for one in ours]) - np.mean(each)
        return f"{row} {value:+.3f} ({low:+.3f} to {high:+.3f}) |"


class Factorised:
    """Ratings predicted by biased matrix factorisation of the training users' ratings."""

    def __init__(self, dataset: Dataset) -> None:
        self._values = dataset.rating_values.astype(np.float64)
        events = dataset.interactions.of_users(dataset.users("train"))
        factorisation = BiasedMf(BiasedMfSettings(factors=8))
        self._model = factorisation.learn(events, self._values[events.rating_index], len(dataset.items))

    def __call__(self, windows: Windows, items: Ints) -> Doubles:
        """Predict the ratings [B] of items [B] by the users of B windows; any number for no item (-1)."""
        events, model = windows.interactions(), self._model
        user = model.users(events, self._values[events.rating_index])
        return np.asarray(model.base[items] + (model.design[items] * user).sum(axis=1))


def score(kind: QuestionKind, numbers: Doubles, truth: Doubles) -> float:
    """Score answers [B]: AUC of yes, accuracy of pairs, or RMSE of ratings."""
    if kind == "rating":
        return float(np.sqrt(((numbers - truth) ** 2).mean()))
    if kind in ("pair", "item-pair"):
        return float(((numbers > 0.5) == (truth > 0.5)).mean())
    return area_under_curve(truth > 0.5, numbers)


if __name__ == "__main__":
    main()
