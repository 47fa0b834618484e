"""Compares runs' answers to questions, one run per training seed, with references, paired over users.

    python benchmarks/questions.py RUN [RUN ...] --recommender RUN --users 240 --seed 0 --cache FOLDER

The runs differ in the training seed only. Test users with interactions outside their window are asked the first
trained and the first held-out wording of each kind, about the same items and categories for all. References answer
the same questions: those of ``palate questions``, the user encoder's view, and biased matrix factorisation fitted to
the training users. Intervals are percentiles of a bootstrap that resamples users and runs. The cache keeps each run's
answers, so that an interrupted command continues with the next run. ``--data`` binds the runs to other data.
"""

from __future__ import annotations

import argparse
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from palate.data.dataset import Dataset, load_dataset
from palate.data.windows import draw_windows
from palate.evaluation.metrics import area_under_curve
from palate.evaluation.questions import RecommendedRatings, References, replies_of, view_of
from palate.model.model import PersonalizedModel, load_model
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
    parser.add_argument("--data", type=Path, help="the runs' own data if not given")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--users", type=int)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder of the answers so far")
    given = parser.parse_args()
    asking = Asking(given)
    answered = [asking.answers(run, given.cache) for run in given.runs]
    print("| kind | predictor | score | SD over runs | the runs' answers minus it (95%) |")
    print("|---|---|---:|---:|---:|")
    for number, kind in enumerate(given.kinds):
        trained, held_out = (np.array([one[2 * number + at] for one in answered]) for at in range(2))
        for line in asking.rows(kind, trained, held_out):
            print(line)


class Asking:
    """Questions about the users of a split, and the answers of all predictors."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, seed = given, given.seed
        recipe = load_run(given.runs[0]).recipe
        self.dataset = dataset = (
            load_dataset(given.data) if given.data else dataset_of(load_run(given.runs[0]))
        )
        self.task = load_task(recipe.task, dataset.info)
        users = dataset.users(given.split)
        users = users[dataset.interactions.lengths[users] > given.window + 1][: given.users]
        statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
        preferences = self.task.labels(statistics)[users]
        self.references = References(dataset, self.task, statistics)
        rates = (
            self.references.rates
            if given.recommender is None
            else RecommendedRatings(load_recommender(given.recommender), dataset)
        )
        rated = dataset.info.feedback == "ratings"
        self.factorised = Factorised(dataset) if rated else None
        questioner = Questioner(
            self.task, dataset, dataset.interactions, statistics, rates if rated else None
        )
        windows = draw_windows(
            dataset.interactions, users, given.window, recipe.windows.kind, np.random.default_rng(seed)
        )
        self.asked: dict[QuestionKind, list[Questions]] = {}
        for kind in given.kinds:
            of = wordings_of(kind)
            self.asked[kind] = [
                questioner.draw(
                    kind,
                    [wording],
                    users,
                    windows,
                    preferences,
                    np.random.default_rng([seed, KINDS.index(kind)]),
                )
                for wording in (of.trained[0], of.held_out[0])
            ]
        self.key = [
            str(given.data), str(given.recommender), given.split, list(given.kinds), len(users), given.window, seed
        ]  # fmt: skip

    def answers(self, run: Path, cache: Path | None) -> list[list[float]]:
        """Return a run's answers to both wordings of each kind, [2·K, B], from the cache if they are there."""
        file, key = None if cache is None else cache / f"{run.name}.json", [str(run), *self.key]
        if file is not None and file.is_file():
            known = json.loads(file.read_text())
            if known["key"] == key:
                found: list[list[float]] = known["answers"]
                return found
        model = load_model(run, data=self.given.data, device="cpu")
        every = [one for several in self.asked.values() for one in several]
        answers = [replies.numbers.tolist() for replies in replies_of(model, every, self.given.batch_size)]
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps({"key": key, "answers": answers}))
        return answers

    def rows(self, kind: QuestionKind, trained: Doubles, held_out: Doubles) -> list[str]:
        """Format the scores of the runs' answers [R, B] and of the references to the questions of one kind."""
        asked = self.asked[kind][0]
        others = dict(self.references.replies(kind, asked))
        if self.factorised is not None and kind in ITEM_KINDS:
            rated = np.stack([self.factorised(asked.windows, column) for column in asked.items.T], axis=1)
            others["biased MF"] = self.references.by_ratings(kind, rated, asked)
            others["expected ratings in the question"] = self.references.by_ratings(
                kind, asked.expected, asked
            )
        else:
            others.update(view_of(self._first_model, kind, asked, self.given.batch_size))
        return [
            self._row(kind, "**answers**, trained wording", trained, None, asked),
            self._row(kind, "**answers**, held-out wording", held_out, trained, asked),
            *(
                self._row(kind, name, replies.numbers[None], trained, asked)
                for name, replies in others.items()
            ),
        ]

    @cached_property
    def _first_model(self) -> PersonalizedModel:
        return load_model(self.given.runs[0], data=self.given.data, device="cpu")

    def _row(
        self, kind: QuestionKind, name: str, numbers: Doubles, ours: Doubles | None, asked: Questions
    ) -> str:
        """Format the scores of a predictor [R, B], and the paired difference of ours [S, B] to it."""
        each = [score(kind, one, asked.truth) for one in numbers]
        spread = f"{np.std(each, ddof=1):.3f}" if len(each) > 1 else "–"
        row = f"| {kind}, {METRICS[kind]} of {len(asked.truth)} | {name} | {np.mean(each):.3f} | {spread} |"
        if ours is None:
            return f"{row} |"
        rng, differences = np.random.default_rng(self.given.seed), []
        for _ in range(RESAMPLES):
            users = rng.integers(len(asked.truth), size=len(asked.truth))
            runs = rng.integers(len(ours), size=len(ours))
            drawn, theirs = ours[runs], numbers if len(numbers) == 1 else numbers[runs]
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
