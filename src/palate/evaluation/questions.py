"""Evaluation of all kinds and wordings of questions, with a control and references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from palate.data.dataset import Dataset
from palate.data.windows import draw_windows
from palate.errors import DataError, MismatchError
from palate.evaluation.evaluate import Setting, read_answers
from palate.evaluation.metrics import area_under_curve
from palate.model.named import find_model
from palate.recommend.files import load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Doubles, History, Ints, Preferences, QuestionKind, Split, Windows
from palate.system.files import write_text
from palate.system.records import Frozen
from palate.tasks import load_task
from palate.tasks.questions import ITEM_KINDS, Questioner, Questions, check_kinds
from palate.tasks.statistics import CategoryStatistics, category_statistics
from palate.tasks.wordings import KINDS, NAMING, Wordings, wordings_of

if TYPE_CHECKING:
    import torch

    from palate.model.model import PersonalizedModel
    from palate.recommend.recommender import Recommender
    from palate.tasks import CategoryPreference

QUESTIONS_FILE = "questions.json"
PRIOR = 5.0
"""Pseudo-ratings of the overall mean in means of items, categories and users."""


class WordingScores(Frozen):
    """Scores of a predictor on one wording."""

    kind: QuestionKind
    wording: str
    held_out: bool
    """Whether the wording was held out from training."""
    predictor: str
    scores: dict[str, float]
    """Metrics of the kind: ``liked_f1``, ``disliked_f1``, ``auc``, ``accuracy``, ``mae``, ``rmse``."""


class QuestionEvaluation(Frozen):
    """Contents of ``questions.json``."""

    format: int = 1
    dataset: str
    fingerprint: str
    setting: Setting
    device: str | None = None
    """Device of the model; None in files of earlier versions."""
    users: int = Field(ge=1)
    rows: tuple[WordingScores, ...]


@dataclass(frozen=True, eq=False)
class Replies:
    """Replies to B questions: texts that name categories, or numbers from the probabilities of choices."""

    texts: list[str]
    numbers: Doubles  # [B] P(yes), P(second choice), or the expected rating


def score_questions(
    model: PersonalizedModel,
    dataset: Dataset,
    task: CategoryPreference,
    setting: Setting,
    kinds: Sequence[QuestionKind],
    max_users: int | None = None,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
    recommender: Recommender | None = None,
    quick: bool = False,
) -> QuestionEvaluation:
    """Evaluate kinds of questions in all their wordings on a split's users.

    All wordings of a kind share the same questions, and each window is encoded once for them. For the first wording,
    other predictors reply, too: the model with another user's history (a control), references based on the window and
    the training users, and the user encoder's expected scores, if it has any.

    Args:
        model: Model to evaluate.
        dataset: Dataset of the users.
        task: Task that parses answers and defines true labels.
        setting: Split, windows and seed.
        kinds: Kinds of questions.
        max_users: Maximum number of users; all if None.
        batch_size: Users per batch.
        progress: Callback (done, total) in wordings.
        recommender: Predicts the ratings that items in questions come with, for a model that was trained with them;
            None for the item's mean rating with the user's offset.
        quick: Whether to ask only the first trained and the first held-out wording of each kind, without the control.

    Raises:
        DataError: The split has no users.
    """
    from palate.system.device import describe_device  # loads torch, so it comes after all checks

    statistics = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    preferences, users = task.labels(statistics), dataset.users(setting.split)[:max_users]
    if not len(users):
        raise DataError(f"the {setting.split} split of {dataset.info.name} has no users to ask about")
    references = References(dataset, task, statistics)
    rates = None
    if model.reads_ratings:
        rates = references.rates if recommender is None else RecommendedRatings(recommender, dataset)
    questioner = Questioner(task, dataset, dataset.interactions, statistics, rates)
    windows = draw_windows(
        dataset.interactions, users, setting.window, setting.kind, np.random.default_rng(setting.seed)
    )
    rows: list[WordingScores] = []
    control = len(users) > 1 and not quick
    asking = _Progress(sum(len(_wordings(kind, quick).all) + control for kind in kinds), progress)
    for number, kind in enumerate(kinds):
        wordings, rng = _wordings(kind, quick), partial(np.random.default_rng, [setting.seed, number])
        several = [
            questioner.draw(kind, [wording], users, windows, preferences[users], rng())
            for wording in wordings.all
        ]
        first = several[0]
        replied = [
            (wording, "model", replies)
            for wording, replies in zip(
                wordings.all, replies_of(model, several, batch_size, asking), strict=True
            )
        ]
        who = [*references.replies(kind, first), *view_of(model, kind, first, batch_size)]
        if rates is not None and kind in ITEM_KINDS:
            who.append(("expected ratings", references.by_ratings(kind, first.expected, first)))
        if control:
            others = first.with_windows(np.roll(np.arange(len(users)), 1))
            who.append(("another user's history", replies_of(model, [others], batch_size, asking)[0]))
        replied[1:1] = [(wordings.trained[0], name, replies) for name, replies in who]
        rows += [
            WordingScores(
                kind=kind,
                wording=wording,
                held_out=wording in wordings.held_out,
                predictor=name,
                scores=_scores(kind, task, first, replies, preferences[users]),
            )
            for wording, name, replies in replied
        ]
    return QuestionEvaluation(
        dataset=dataset.info.name,
        fingerprint=dataset.info.fingerprint,
        setting=setting,
        device=describe_device(model.device),
        users=len(users),
        rows=tuple(rows),
    )


def questions_of_run(
    path: Path,
    kinds: Sequence[str] | None = None,
    data: Path | None = None,
    split: Split = "test",
    window: int | None = None,
    max_users: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    backbone: str | None = None,
    device: str | torch.device = "auto",
    recommender: Path | None = None,
    quick: bool = False,
) -> QuestionEvaluation:
    """Evaluate a run's model; arguments that are None take the recipe's value, ``kinds`` those trained on.

    All checks precede the loading of the model.

    Raises:
        RecipeError: A kind does not exist, or the data cannot answer it.
        MismatchError: The run was trained on other data or with another backbone, or the device does not exist.
    """
    run = load_run(path)
    recipe = run.recipe
    named = find_model(path, backbone, data)
    dataset = named.dataset or dataset_of(run, data)
    if run.trained_on is not None and dataset.info.fingerprint != run.trained_on[1]:
        raise MismatchError(
            f"{path} was trained on other data than {dataset.path}; name the run's training data with --data"
        )
    setting = Setting(
        split=split, window=window or recipe.evaluate.window, kind=recipe.windows.kind, seed=seed
    )
    wanted = list(kinds or recipe.train.questions or ("preference",))
    check_kinds(wanted, dataset)
    asked = [kind for kind in KINDS if kind in wanted]
    rating = None if recommender is None else load_recommender(recommender)
    if not len(dataset.users(split)):
        raise DataError(f"the {split} split of {dataset.info.name} has no users to ask about")
    return score_questions(
        named.load(device),
        dataset,
        load_task(recipe.task, dataset.info),
        setting,
        asked,
        max_users,
        recipe.evaluate.batch_size,
        progress,
        rating,
        quick,
    )


def write_questions(evaluation: QuestionEvaluation, path: Path) -> None:
    """Write the evaluation as JSON, atomically."""
    write_text(path, evaluation.model_dump_json(indent=2) + "\n")


def replies_of(
    model: PersonalizedModel,
    several: Sequence[Questions],
    batch_size: int,
    replied: Callable[[float], None] = lambda wordings: None,
) -> list[Replies]:
    """Get a model's replies to several wordings of questions about the same windows, which are encoded once.

    Args:
        model: The model.
        several: The questions of B users, once per wording.
        batch_size: Users per batch.
        replied: Called after each batch of each wording with the share of the wording's users.

    Returns:
        The replies to each wording.
    """
    count = len(several[0].asked)
    texts: list[list[str]] = [[] for _ in several]
    numbers: list[list[Doubles]] = [[np.zeros(0)] for _ in several]
    for start in range(0, count, batch_size):
        rows = slice(start, start + batch_size)
        before = model.read(several[0].windows[rows].trimmed())
        for asked, text, number in zip(several, texts, numbers, strict=True):
            if asked.choices[0]:
                chances = model.choose(before, asked.choices[rows], asked.asked[rows])  # [b, C]
                number.append(chances.double().cpu().numpy() @ asked.values)
            else:
                text += model.generate_after(before, asked.asked[rows])
            replied(len(asked.asked[rows]) / count)
    return [Replies(text, np.concatenate(number)) for text, number in zip(texts, numbers, strict=True)]


class _Progress:
    """Reports the number of wordings answered, from shares of them."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._total, self._report, self._done = total, report, 0.0

    def __call__(self, wordings: float) -> None:
        before, self._done = int(self._done + 1e-6), self._done + wordings
        if self._report and int(self._done + 1e-6) > before:
            self._report(int(self._done + 1e-6), self._total)


def view_of(
    model: PersonalizedModel, kind: QuestionKind, asked: Questions, batch_size: int
) -> list[tuple[str, Replies]]:
    """Reply to questions about categories from the user encoder's expected scores, without the language model.

    P(yes) is the sigmoid of the score above the threshold of liked labels; P(second choice) is the sigmoid of the
    difference of the two scores. Returns nothing for other kinds, and for encoders without expected scores.
    """
    if kind not in ("yes-no", "pair") or not model.settings.binds:
        return []
    import torch

    found = []
    for start in range(0, len(asked.asked), batch_size):
        rows = slice(start, start + batch_size)
        with torch.inference_mode():
            scores = model.user_prompt(asked.windows[rows].trimmed()).scores
        assert scores is not None
        score = scores.double().cpu().numpy()  # [b, L]
        each, categories = np.arange(len(score)), asked.categories[rows]
        first, second = score[each, categories[:, 0]], score[each, categories[:, 1]]
        found.append(first if kind == "yes-no" else second - first)
    return [("encoder's view", Replies([], 1 / (1 + np.exp(-np.concatenate(found)))))]


class RecommendedRatings:
    """Predicts ratings from windows by a recommender."""

    def __init__(self, recommender: Recommender, dataset: Dataset) -> None:
        self._recommender, self._dataset = recommender, dataset

    def __call__(self, windows: Windows, items: Ints) -> Doubles:
        """Predict the ratings [B] of items [B] by the users of B windows."""
        ids, scale, rated = self._dataset.item_ids, self._dataset.info.rating_values, []
        for row, item in enumerate(items.tolist()):
            own = slice(0, int(windows.length[row]))
            history = History(
                str(row),
                [ids[index] for index in windows.item_index[row, own]],
                [scale[index] for index in windows.rating_index[row, own]],
                windows.timestamp[row, own].tolist(),
            )
            rated.append(self._recommender.rate([history], [ids[item]])[0].items[0].rating)
        return np.array(rated)


class References:
    """References without a language model, from means of the window and of the training users.

    ``statistics`` are those of all users' full histories, of which only the training users' are used.
    """

    def __init__(self, dataset: Dataset, task: CategoryPreference, statistics: CategoryStatistics) -> None:
        self._dataset, self._task = dataset, task
        interactions, values = dataset.interactions, dataset.rating_values.astype(np.float64)
        train = statistics[dataset.users("train")]
        self._category = train.total.sum(axis=0) / np.maximum(train.count.sum(axis=0), 1)  # [L]
        rows = np.isin(interactions.owner, dataset.users("train"))
        items, ratings = interactions.item_index[rows], values[interactions.rating_index[rows]]
        number = np.bincount(items, minlength=len(dataset.items))
        total = np.bincount(items, ratings, minlength=len(dataset.items))
        self._item = (total + PRIOR * ratings.mean()) / (number + PRIOR)  # [I]

    def replies(self, kind: QuestionKind, asked: Questions) -> list[tuple[str, Replies]]:
        """Compute reference predictions for this kind of question, by predictor name."""
        seen = category_statistics(
            asked.windows.interactions(), self._dataset.category_matrix, self._dataset.rating_values
        )
        if kind in NAMING:
            return [("rule", Replies(self._task.texts(kind, self._task.labels(seen)), np.zeros(0)))]
        if kind in ITEM_KINDS:
            mean = self._item[asked.items]  # [B, 2]
            offset = self._offset(asked.windows)[:, None]
            return [
                ("item mean", self.by_ratings(kind, mean, asked)),
                ("item mean and user's offset", self.by_ratings(kind, mean + offset, asked)),
            ]
        own = (seen.total + PRIOR * self._category) / (
            seen.count + PRIOR
        )  # [B, L] shrunk to the population's
        everybody = np.broadcast_to(self._category, own.shape)
        return [
            ("population", self._chosen(kind, everybody, asked, np.full(len(own), self._task.like_above))),
            ("window's means", self._chosen(kind, own, asked, self._task.thresholds(seen)[:, 0])),
        ]

    def _chosen(self, kind: QuestionKind, score: Doubles, asked: Questions, like_above: Doubles) -> Replies:
        """Convert scores [B, L] to numbers, above 0.5 for yes (score over ``like_above`` [B]) or the second choice."""
        rows = np.arange(len(score))
        first = score[rows, asked.categories[:, 0]]
        if kind == "pair":
            return Replies([], 0.5 + (score[rows, asked.categories[:, 1]] - first))
        return Replies([], 0.5 + (first - like_above))

    def by_ratings(self, kind: QuestionKind, ratings: Doubles, asked: Questions) -> Replies:
        """Convert the ratings [B, 2] of the items asked about to numbers, above 0.5 for yes or the second choice."""
        if kind == "rating":
            return Replies([], ratings[:, 0])
        least = ratings[:, 0] if kind == "item-pair" else self._task.like_above
        return Replies([], 0.5 + ratings[:, int(kind == "item-pair")] - least)

    def rates(self, windows: Windows, items: Ints) -> Doubles:
        """Predict ratings by the item's mean and the user's offset."""
        return np.asarray(self._item[items] + self._offset(windows))

    def _offset(self, windows: Windows) -> Doubles:
        values = self._dataset.rating_values.astype(np.float64)
        residual = (values[windows.rating_index] - self._item[windows.item_index]) * windows.mask
        return np.asarray(residual.sum(axis=1) / (windows.length + PRIOR))


def _wordings(kind: QuestionKind, quick: bool) -> Wordings:
    """Return the wordings of a kind to ask: all, or only the first trained and the first held-out one."""
    every = wordings_of(kind)
    return Wordings(every.trained[:1], every.held_out[:1]) if quick else every


def _scores(
    kind: QuestionKind, task: CategoryPreference, asked: Questions, given: Replies, truth: Preferences
) -> dict[str, float]:
    if kind in NAMING:
        answers = read_answers(given.texts, truth, task)
        scores = {"liked_f1": answers.liked_f1, "disliked_f1": answers.disliked_f1}
        return scores if kind == "preference" else {f"{kind}_f1": scores[f"{kind}_f1"]}
    if kind == "rating":
        error = given.numbers - asked.truth
        return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean()))}
    right = (given.numbers > 0.5) == (asked.truth > 0.5)
    accuracy = {"accuracy": float(right.mean())}
    if kind in ("pair", "item-pair"):
        return accuracy
    return {"auc": area_under_curve(asked.truth > 0.5, given.numbers), **accuracy}
