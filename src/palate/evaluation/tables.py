"""Tables of evaluations, for terminals and documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from palate.evaluation.calibration import BINS
from palate.evaluation.label_sets import named_sets, predictions_by_predictor, true_sets
from palate.evaluation.metrics import SetScores
from palate.evaluation.significance import SIGNIFICANT, PairDifference, mean_scores, tested_pairs
from palate.report.sheet import Sheet
from palate.words import counted

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation, PredictorScores
    from palate.evaluation.questions import QuestionEvaluation
    from palate.evaluation.write import WindowScores

_HEAD = (
    "predictor",
    "liked\nP",
    "liked\nR",
    "liked F1\n(95% interval)",
    "disliked\nF1",
    "joint\nF1",
    "not\nread",
    "time",
)
_SPARE = (_HEAD[7], _HEAD[6], _HEAD[2], _HEAD[1], _HEAD[5], _HEAD[4])
_NOTE = (
    "P, R and F1 are weighted by category; the interval is a bootstrap over users; not read: share of answers "
    "without a label."
)
_WINDOW_NOTE = "Liked F1, weighted by category, by window size."
_METRICS = {"liked_f1": "liked F1", "disliked_f1": "disliked F1", "auc": "AUC", "mae": "MAE", "rmse": "RMSE"}
_QUESTION_NOTE = (
    "F1 is weighted by category; yes-no, pair and rating are scored by the answers' probabilities. New wordings were "
    "held out from training."
)
_SOURCES = {
    "labels": "of the full history",
    "unseen": "of the interactions outside the window",
    "future": "of the interactions after the window's newest",
}
_CALIBRATION_HEAD = (
    "predictor",
    "window",
    "truth",
    "liked\nECE",
    "disliked\nECE",
    "liked\nBrier",
    "disliked\nBrier",
    "liked\nskill",
    "disliked\nskill",
)
_CALIBRATION_NOTE = (
    f"ECE is the expected calibration error over {BINS} bins of equal size; Brier the mean squared error of the "
    "probabilities; skill 1 minus the Brier score over that of the training users' frequencies."
)
_PROMISE_HEAD = ("predictor", "window", "truth", "promise", "coverage", "promised\nF1", "reached\nF1")
_PROMISE_NOTE = (
    "Where an answer's expected F1 is below the promise, it says that not enough is known. Coverage is the share of "
    "the other users; promised and reached F1 are the means of their answers' expected and true F1 of liked labels, 1 "
    "if there are none and none are named. In the table of scores, an abstention counts as naming no label."
)
_SEEDS_NOTE = (
    " For several seeds: the mean, with the 95% interval of a bootstrap over seeds and users, and the sample standard "
    "deviation over seeds; every other row is a single run or a reference."
)
_TESTS_NOTE = (
    "Each row's liked F1 minus that of each column. p-values are of paired randomisation tests over users, with "
    "Holm's correction for all pairs; * marks those below .05. Runs that differ only in the seed are shown as a mean."
)


def evaluation_sheet(
    *evaluations: Evaluation,
    seeds: Mapping[str, Sequence[str]] = MappingProxyType({}),
    labels: Sequence[str] = (),
) -> Sheet:
    """Build the table of scores at one window size, with a row per truth and predictor, and per group of seeds."""
    several = len(evaluations) > 1
    rows = [
        [one.name, *([evaluation.setting.truth] if several else []), *_cells(one)]
        for evaluation in evaluations
        for one in evaluation.predictors
    ]
    for evaluation in evaluations:
        truth = [evaluation.setting.truth] if several else []
        rows += [
            [group, *truth, *_cells_of_seeds(evaluation, names, labels)] for group, names in seeds.items()
        ]
    if several:
        rows += [["(users)", one.setting.truth, f"{one.users:,}", *[""] * 6] for one in evaluations]
    head = [_HEAD[0], *(["truth"] if several else []), *_HEAD[1:]]
    window = f"{evaluations[0].setting.window} "
    note = f"{_NOTE}{_SEEDS_NOTE if seeds else ''} {_labels_note(evaluations)}"
    return Sheet(_title(evaluations, window), head, rows, note, _SPARE)


def window_sheet(scores: WindowScores) -> Sheet:
    """Build the table of liked F1 by window size, with a row per truth and predictor, and a column per size."""
    several = len(scores.truths) > 1
    rows, sizes = [], []
    for truth, evaluations in scores.truths.items():
        f1 = [{one.name: one.scores.liked.f1.value for one in at.predictors} for at in evaluations]
        found = [[name, *(f"{at[name]:.3f}" for at in f1)] for name in f1[0]]
        for together, names in scores.seeds.items():
            found.append([together, *(_mean_of_seeds(at, names, scores.label_names) for at in evaluations)])
        found.append(["(users)", *(f"{at.users:,}" for at in evaluations)])
        rows += [[name, *([truth] if several else []), *cells] for name, *cells in found]
        sizes = [f"{at.setting.window:,}" for at in evaluations]
    head = ["predictor", *(["truth"] if several else []), *sizes]
    note = _WINDOW_NOTE + (_SEEDS_NOTE if scores.seeds else "")
    return Sheet(_title(scores.evaluations), head, rows, f"{note} {_labels_note(scores.evaluations)}")


def calibration_sheet(evaluations: Sequence[Evaluation]) -> Sheet:
    """Build the table of calibration, with a row per predictor with probabilities, window size and truth."""
    rows = [
        [
            one.name,
            *_setting_cells(evaluation),
            *(f"{half.error:.3f}" for half in halves),
            *(f"{half.brier:.4f}" for half in halves),
            *(f"{half.skill:+.3f}" for half in halves),
        ]
        for evaluation in evaluations
        for one in evaluation.predictors
        if one.calibration is not None
        for halves in [(one.calibration.liked, one.calibration.disliked)]
    ]
    return Sheet(
        _title(evaluations), _CALIBRATION_HEAD, rows, f"{_CALIBRATION_NOTE} {_rule_note(evaluations)}"
    )


def promise_sheet(evaluations: Sequence[Evaluation]) -> Sheet:
    """Build the table of promised and reached F1, with a row per predictor with probabilities, window and truth."""
    rows = [
        [
            one.name,
            *_setting_cells(evaluation),
            f"{one.promise.least:g}",
            f"{one.promise.coverage:.1%}",
            *(
                "–" if value is None else f"{value:.3f}"
                for value in (one.promise.promised, one.promise.reached)
            ),
        ]
        for evaluation in evaluations
        for one in evaluation.predictors
        if one.promise is not None
    ]
    return Sheet(_title(evaluations), _PROMISE_HEAD, rows, f"{_PROMISE_NOTE} {_rule_note(evaluations)}")


def sheets(scores: WindowScores) -> Iterator[Sheet]:
    """Yield all tables of a comparison: scores, then calibration, promises and tests if requested."""
    evaluations = scores.evaluations
    several = len({one.setting.window for one in evaluations}) > 1
    if several:
        yield window_sheet(scores)
    else:
        yield evaluation_sheet(*evaluations, seeds=scores.seeds, labels=scores.label_names)
    predictors = [one for evaluation in evaluations for one in evaluation.predictors]
    if any(one.calibration is not None for one in predictors):
        yield calibration_sheet(evaluations)
    if any(one.promise is not None for one in predictors):
        yield promise_sheet(evaluations)
    if scores.tests:
        yield from (difference_sheet(one, scores.seeds, scores.label_names) for one in evaluations)


def difference_sheet(
    evaluation: Evaluation, seeds: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> Sheet:
    """Build the table of pairwise differences, with corrected p-values.

    Args:
        evaluation: Answers of all predictors.
        seeds: Groups of predictors that differ only in the training seed, as member names by group name.
        labels: Names of the labels.
    """
    found = tested_pairs(evaluation, seeds, labels)
    named = list(dict.fromkeys(name for pair in found for name in pair))
    rows = [
        [f"{number}. {name}", *(_difference(found, name, other) for other in named)]
        for number, name in enumerate(named, start=1)
    ]
    head = ["predictor", *(f"{number}." for number in range(1, len(named) + 1))]
    title = f"{_title([evaluation], f'{evaluation.setting.window} ')}, truth {evaluation.setting.truth}"
    return Sheet(title, head, rows, _TESTS_NOTE)


def _difference(found: Mapping[tuple[str, str], PairDifference], row: str, column: str) -> str:
    for names, sign in (((row, column), 1), ((column, row), -1)):
        if (one := found.get(names)) is not None:
            star = "*" if one.corrected < SIGNIFICANT else ""
            level = f"p {one.corrected:.3f}" if one.corrected >= 0.001 else "p < .001"
            return f"{sign * one.difference:+.3f}{star}\n{level}"
    return ""


def question_sheet(evaluation: QuestionEvaluation) -> Sheet:
    """Build the table of questions, with a row per wording and predictor."""
    setting = evaluation.setting
    rows = [
        (
            row.wording,
            "new" if row.held_out else "",
            row.predictor,
            ", ".join(f"{_METRICS.get(name, name)} {value:.3f}" for name, value in row.scores.items()),
        )
        for row in evaluation.rows
    ]
    title = _title([evaluation], f"{setting.window} ")
    return Sheet(title, ("question", "", "answered by", "scores"), rows, _QUESTION_NOTE)


def _title(evaluations: Sequence[Evaluation | QuestionEvaluation], window: str = "") -> str:
    setting = evaluations[0].setting
    numbers = {one.users for one in evaluations}
    users = f"{setting.split} users"
    if setting.users == "partly":
        longer = "with more interactions than the window"
        users = f"{numbers.pop()} {users} {longer}" if len(numbers) == 1 else f"{users} {longer}"
    elif len(numbers) == 1:
        users = f"{numbers.pop()} {users}"
    return f"{evaluations[0].dataset}: {users}, {window}{setting.kind} interactions, seed {setting.seed}"


def _labels_note(evaluations: Sequence[Evaluation]) -> str:
    """Describe the label rule, the interactions that labels come from, and the users left out."""
    truths = list(dict.fromkeys(one.setting.truth for one in evaluations))
    sources = [_SOURCES[one] if len(truths) == 1 else f"{_SOURCES[one]} ({one})" for one in truths]
    notes = [f"Labels {', '.join(sources)}.", _rule_note(evaluations)]
    if any(one.left_out.seen_whole for one in evaluations):
        number = _number([one.left_out.seen_whole for one in evaluations])
        notes.append(f"Left out are {number} whose history is no longer than the window.")
    if any(one.left_out.too_few_outside for one in evaluations):
        number = _number(
            [one.left_out.too_few_outside for one in evaluations if one.setting.truth != "labels"]
        )
        notes.append(f"Left out are {number} with too few interactions outside the window for a label.")
    return " ".join(filter(None, notes))


def _rule_note(evaluations: Sequence[Evaluation]) -> str:
    return f"Rule: {rule}." if (rule := evaluations[0].label_rule) else ""


def _number(users: Sequence[int]) -> str:
    """Format the number of users, if all evaluations share it."""
    return counted(users[0], "user") if len(set(users)) == 1 else "users"


def _setting_cells(evaluation: Evaluation) -> list[str]:
    return [f"{evaluation.setting.window:,}", evaluation.setting.truth]


def _mean_of_seeds(evaluation: Evaluation, names: Sequence[str], labels: Sequence[str]) -> str:
    """Format the mean liked F1 of several seeds, with its interval and the standard deviation."""
    f1 = _liked_of_seeds(evaluation, names, labels).f1
    each = [one.scores.liked.f1.value for one in evaluation.predictors if one.name in names]
    return f"{f1.value:.3f} ({f1.low:.2f}–{f1.high:.2f})\n± {stdev(each):.3f}"


def _cells_of_seeds(evaluation: Evaluation, names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Format the means of several seeds as the cells of one predictor."""
    liked = _liked_of_seeds(evaluation, names, labels)
    several = [one for one in evaluation.predictors if one.name in names]
    return [
        f"{liked.precision.value:.3f}",
        f"{liked.recall.value:.3f}",
        _mean_of_seeds(evaluation, names, labels),
        f"{fmean(one.scores.disliked.f1.value for one in several):.3f}",
        f"{fmean(one.scores.joint.f1.value for one in several):.3f}",
        f"{fmean(one.unreadable for one in several):.1%}",
        f"{sum(one.seconds for one in several):.1f} s",
    ]


def _liked_of_seeds(evaluation: Evaluation, names: Sequence[str], labels: Sequence[str]) -> SetScores:
    answers = predictions_by_predictor(evaluation)
    truth = true_sets(answers[names[0]], labels)[..., 0]
    named = np.stack([named_sets(answers[name], labels)[..., 0] for name in names])
    return mean_scores(truth, named, evaluation.setting.seed)


def _cells(one: PredictorScores) -> list[str]:
    liked, disliked, joint = one.scores.liked, one.scores.disliked, one.scores.joint
    return [
        f"{liked.precision.value:.3f}",
        f"{liked.recall.value:.3f}",
        f"{liked.f1.value:.3f} ({liked.f1.low:.2f}–{liked.f1.high:.2f})",
        f"{disliked.f1.value:.3f}",
        f"{joint.f1.value:.3f}",
        f"{one.unreadable:.1%}",
        f"{one.seconds:.1f} s",
    ]
