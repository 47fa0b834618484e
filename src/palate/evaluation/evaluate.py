"""The evaluator: scores predictors on the same examples."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from palate.errors import DataError, LeakageError, PalateError
from palate.evaluation.calibration import Calibration, KeptPromise, calibration_of, kept_promise
from palate.evaluation.metrics import PreferenceScores, label_f1, score_preferences, weighted_f1
from palate.evaluation.predictors.base import expected_f1_of, probabilities_of
from palate.schema import (
    Bools,
    Doubles,
    Examples,
    Ints,
    LeftOut,
    Preferences,
    Split,
    Truth,
    UserChoice,
    WindowKind,
    membership,
)
from palate.system.files import read_text, write_text
from palate.system.locks import locked
from palate.system.records import Frozen, parse_record, read_record
from palate.tasks.verbalizer import NO_ANSWER

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.evaluation.predictors.base import Predictor
    from palate.tasks.base import Task

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.jsonl"
_AGAIN = "run palate evaluate again"
_MISSING = f"the file is missing; {_AGAIN}"


class Setting(Frozen):
    """Which examples are evaluated: arguments of :func:`palate.data.windows.make_examples`."""

    split: Split
    window: int = Field(ge=1)
    """Maximum number of interactions per window."""
    kind: WindowKind
    seed: int
    users: UserChoice = "all"
    """Users that are scored, ``partly`` or ``all``; files of earlier versions lack it and mean ``all``."""
    truth: Truth = "labels"
    """Interactions that the true labels are computed from; ``labels`` in files of earlier versions."""


class CategoryScores(Frozen):
    """F1 of one category, and the number of users who like or dislike it."""

    liked_f1: float
    liked_users: int
    disliked_f1: float
    disliked_users: int


class PredictorScores(Frozen):
    """Scores of one predictor."""

    name: str
    scores: PreferenceScores
    per_category: dict[str, CategoryScores]
    unreadable: float
    """Fraction of answers that can be parsed neither to labels nor to the statement that there are none."""
    seconds: float
    """Wall time in seconds for all users' answers."""
    calibration: Calibration | None = None
    """Calibration, if requested and the predictor has probabilities."""
    promise: KeptPromise | None = None
    """Scores with abstention, if a minimum F1 was promised and the predictor has probabilities."""


class Prediction(Frozen):
    """An answer, the labels parsed from it, and the true labels; names in order of rank."""

    predictor: str
    user_id: str
    answer: str
    liked: tuple[str, ...]
    disliked: tuple[str, ...]
    truth_liked: tuple[str, ...]
    truth_disliked: tuple[str, ...]


class Evaluation(Frozen):
    """Contents of ``metrics.json``, with the predictions of ``predictions.jsonl``."""

    format: int = 1
    dataset: str
    fingerprint: str
    setting: Setting
    users: int
    left_out: LeftOut = LeftOut()
    label_rule: str = ""
    """Label rule as a sentence; empty in files of earlier versions."""
    predictors: tuple[PredictorScores, ...]
    device: str | None = None
    """Device of the models; None without models, and in files of earlier versions."""
    warnings: tuple[str, ...] = ()
    """Warnings about the training of the evaluated models."""
    predictions: tuple[Prediction, ...] = Field((), exclude=True, repr=False)
    predictions_digest: str | None = None
    """sha256 of ``predictions.jsonl``; detects a process that was killed between writing the two files."""


@dataclass(frozen=True, eq=False)
class ReadAnswers:
    """Answers about B users, the labels parsed from them, and the true labels."""

    texts: Sequence[str]
    said: Preferences
    truth: Preferences
    task: Task

    @property
    def liked_f1(self) -> float:
        """Weighted F1 of the liked labels."""
        return self._f1(self.truth.liked, self.said.liked)

    @property
    def disliked_f1(self) -> float:
        """Weighted F1 of the disliked labels."""
        return self._f1(self.truth.disliked, self.said.disliked)

    @property
    def unreadable(self) -> float:
        """Fraction of answers parsed neither to labels, nor as saying that there are none or too little is known."""
        empty = np.concatenate([self.said.liked, self.said.disliked], axis=1).max(axis=1) < 0
        empty &= ~self.task.declines(self.texts)
        of_nothing = self.task.target_texts(self.said[empty])
        rows: list[int] = np.flatnonzero(empty).tolist()
        missed = [row for row, text in zip(rows, of_nothing, strict=True) if self.texts[row] != text]
        return len(missed) / len(self.texts)

    @property
    def truths(self) -> Bools:
        """The true labels, [B, L, 2]."""
        return self.truth.membership(len(self.task.label_names))

    @property
    def likes(self) -> Bools:
        """Liked labels in the answers, [B, L]."""
        return membership(self.said.liked, len(self.task.label_names))

    def withheld(self, expected: Doubles, promise: float) -> tuple[ReadAnswers, KeptPromise]:
        """Replace answers whose expected F1 [B] is below ``promise`` by an abstention, and score the others."""
        texts = [
            text if enough else NO_ANSWER
            for text, enough in zip(self.texts, expected >= promise, strict=True)
        ]
        kept = kept_promise(promise, expected, self.truths[..., 0], self.likes)
        return read_answers(texts, self.truth, self.task), kept

    def __getitem__(self, rows: Ints) -> ReadAnswers:
        return ReadAnswers([self.texts[row] for row in rows], self.said[rows], self.truth[rows], self.task)

    def _f1(self, truth: Ints, said: Ints) -> float:
        labels = len(self.task.label_names)
        return weighted_f1(membership(truth, labels), membership(said, labels))


def read_answers(texts: Sequence[str], truth: Preferences, task: Task) -> ReadAnswers:
    """Parse B answers for comparison with the true labels."""
    return ReadAnswers(texts, task.parse(texts), truth, task)


def ask(predictor: Predictor, examples: Examples, task: Task) -> ReadAnswers:
    """Get a predictor's answers for all examples; raises :class:`PalateError` if their number differs."""
    texts = predictor.predict(examples.user_index, examples.windows)
    if len(texts) != len(examples):
        raise PalateError(f"{predictor.name}: returned {len(texts)} answers for {len(examples)} users")
    return read_answers(texts, examples.truth, task)


def score_predictors(
    predictors: Sequence[Predictor],
    examples: Examples,
    task: Task,
    dataset: Dataset,
    setting: Setting,
    frequency: Doubles | None = None,
    promise: float | None = None,
) -> Evaluation:
    """Score all predictors on the same examples.

    Args:
        predictors: Predictors to score.
        examples: Windows and true labels of a split's users.
        task: Task that parses answers.
        dataset: Dataset of the examples.
        setting: Which examples these are.
        frequency: Frequencies of the labels among training users, [L, 2], as the baseline of calibration; None for no
            calibration.
        promise: Expected F1 below which a predictor with probabilities abstains; None to never abstain.

    Raises:
        LeakageError: The examples are not from the setting's split.
        PalateError: There are no users or predictors, two predictors share a name, or one returns too few answers.
    """
    _check(predictors, examples, dataset, setting)
    scores: list[PredictorScores] = []
    predictions: list[Prediction] = []
    for predictor in predictors:
        start = time.perf_counter()
        answers = ask(predictor, examples, task)
        seconds = time.perf_counter() - start
        calibration, kept = None, None
        if frequency is not None or promise is not None:
            chances = probabilities_of(predictor, examples.user_index, examples.windows)
            if chances is not None and frequency is not None:
                calibration = calibration_of(chances, answers.truths, frequency)
            if chances is not None and promise is not None:
                most = answers.truth.liked.shape[1]
                expected = expected_f1_of(predictor, examples.windows, answers.likes, chances[..., 0], most)
                answers, kept = answers.withheld(expected, promise)
        scores.append(
            PredictorScores(
                name=predictor.name,
                scores=score_preferences(answers.truth, answers.said, len(task.label_names), setting.seed),
                per_category=_per_category(answers.truth, answers.said, task.label_names),
                unreadable=answers.unreadable,
                seconds=round(seconds, 3),
                calibration=calibration,
                promise=kept,
            )
        )
        user_ids = [dataset.user_ids[index] for index in examples.user_index]
        predictions.extend(_predictions(predictor.name, user_ids, answers, task))
    return Evaluation(
        dataset=dataset.info.name,
        fingerprint=dataset.info.fingerprint,
        setting=setting,
        users=len(examples),
        left_out=examples.left_out,
        label_rule=task.rule_in_words,
        predictors=tuple(scores),
        predictions=tuple(predictions),
    )


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write ``predictions.jsonl``, then ``metrics.json``, each atomically."""
    lines = [
        json.dumps(prediction.model_dump(), ensure_ascii=False) + "\n"
        for prediction in evaluation.predictions
    ]
    answers = "".join(lines)
    with locked(folder / METRICS_FILE, wait=True):  # so that concurrent evaluations do not mix their files
        write_text(folder / PREDICTIONS_FILE, answers)
        metrics = evaluation.model_copy(update={"predictions_digest": _digest(answers)})
        write_text(folder / METRICS_FILE, metrics.model_dump_json(indent=2) + "\n")


def read_evaluation(folder: Path) -> Evaluation:
    """Read the files of :func:`write_evaluation`; raises :class:`DataError` with file and line."""
    metrics, lines = folder / METRICS_FILE, folder / PREDICTIONS_FILE
    evaluation = read_record(Evaluation, metrics, _MISSING, _AGAIN)
    answers = read_text(lines, _MISSING)
    rows = enumerate(answers.removesuffix("\n").split("\n"), start=1)
    predictions = tuple(parse_record(Prediction, row, lines, _AGAIN, number) for number, row in rows)
    if evaluation.predictions_digest not in (None, _digest(answers)):
        raise DataError(f"does not match the digest in {METRICS_FILE}; {_AGAIN}", lines)
    return evaluation.model_copy(update={"predictions": predictions, "predictions_digest": None})


def _check(predictors: Sequence[Predictor], examples: Examples, dataset: Dataset, setting: Setting) -> None:
    if not predictors:
        raise PalateError("no predictor was given; name at least one")
    if not len(examples):
        raise PalateError(f"the {setting.split} split of {dataset.info.name} has no users to evaluate on")
    names = [predictor.name for predictor in predictors]
    for name in names:
        if names.count(name) > 1:
            raise PalateError(f"{names.count(name)} predictors are named {name!r}; give each a unique name")
    others = np.setdiff1d(examples.user_index, dataset.users(setting.split))
    if len(others):
        raise LeakageError(
            f"{len(others)} of {len(examples)} examples are not from the {setting.split} split "
            f"(the first: user {dataset.user_ids[int(others[0])]!r}); make examples of that split"
        )


def _per_category(truth: Preferences, read: Preferences, names: Sequence[str]) -> dict[str, CategoryScores]:
    labels = len(names)
    liked, disliked = membership(truth.liked, labels), membership(truth.disliked, labels)
    liked_f1 = label_f1(liked, membership(read.liked, labels))
    disliked_f1 = label_f1(disliked, membership(read.disliked, labels))
    return {
        name: CategoryScores(
            liked_f1=float(liked_f1[index]),
            liked_users=int(liked[:, index].sum()),
            disliked_f1=float(disliked_f1[index]),
            disliked_users=int(disliked[:, index].sum()),
        )
        for index, name in enumerate(names)
    }


def _predictions(
    name: str, user_ids: Sequence[str], answers: ReadAnswers, task: Task
) -> Iterator[Prediction]:
    def named(ranked: Ints) -> list[tuple[str, ...]]:
        return [tuple(task.label_names[index] for index in row if index >= 0) for row in ranked.tolist()]

    said, truth = answers.said, answers.truth
    columns = (user_ids, answers.texts, *map(named, (said.liked, said.disliked, truth.liked, truth.disliked)))
    for user_id, answer, liked, disliked, truth_liked, truth_disliked in zip(*columns, strict=True):
        yield Prediction(
            predictor=name,
            user_id=user_id,
            answer=answer,
            liked=liked,
            disliked=disliked,
            truth_liked=truth_liked,
            truth_disliked=truth_disliked,
        )


def _digest(answers: str) -> str:
    return f"sha256:{hashlib.sha256(answers.encode()).hexdigest()}"
