"""Builds the data of the demo's report from evaluation results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palate.demo.facts import demo_facts, demo_notes
from palate.demo.scores import LENGTHS, MAIN, PAPER, DemoResults
from palate.evaluation.evaluate import Prediction, PredictorScores
from palate.evaluation.metrics import Score
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.model.config import model_settings
from palate.report.data import (
    CategoryComparison,
    CategoryF1,
    ExampleAnswer,
    ExampleItem,
    ExampleUser,
    Labels,
    LengthLine,
    PredictorKind,
    ReportData,
    ScoreRow,
    ShownScore,
    Training,
    TrainingCurve,
)
from palate.runs.curve import Curve
from palate.words import plural

SHOWN = {MAIN: "palate", PAPER: "the paper's UEM"}
NOTES = {
    MAIN: "counts by category and a summary of the population, windows of any length",
    f"{MAIN}, view in a template": "the user encoder's decisions, without the language model",
    PAPER: "one user-prompt vector per item; a small size",
    "rule": "the label rule on the window that the models read",
    "shrinkage": "category means shrunk toward the training users'",
    "counting": "most frequent categories of the full history",
    "population": "the training users' most common labels, for every user",
}
CONTROLS = (
    "population",
    f"{MAIN}, another user's history",
    f"{MAIN}, view in a template",
    f"{PAPER}, another user's history",
)
ORDER: tuple[PredictorKind, ...] = ("model", "reference", "rule", "control")
EXAMPLES = 3
ITEMS = 3
"""Number of highest-rated, and of lowest-rated, items of an example's window."""


def demo_page(results: DemoResults, seconds: dict[str, float], peak_memory_gib: float) -> ReportData:
    """Create the report's data; ``seconds`` is the wall time by stage."""
    curves = {name: curve for name, run in results.runs.items() if (curve := run.curve) is not None}
    scores = {one.name: one for one in results.evaluation.predictors}
    trained = {name: curve.seconds for name, curve in curves.items()}
    info, users = results.comparison.dataset.info, results.evaluation.users
    return ReportData(
        title="palate demo: what does this user like?",
        lead=(
            f"Two small models read {results.evaluation.setting.window} ratings of a user of {info.name} and name "
            f"the {plural(info.category_field)} that the user likes and dislikes over the full history. "
            f"palate's packaged model was fine-tuned on this data for {_steps(MAIN, results):,} steps; the paper's "
            f"User Embedding Module was trained from scratch for {_steps(PAPER, results):,}. All predictors below "
            f"are evaluated on the same {users} test users, who are not in the training data."
        ),
        warnings=tuple(_by_shown_name(warning) for warning in results.evaluation.warnings),
        facts=demo_facts(results, seconds, peak_memory_gib),
        scores=tuple(sorted((_score_row(one, results, trained) for one in scores.values()), key=_order)),
        interval=f"95% bootstrap interval over {users} test users",
        lengths=tuple(
            LengthLine(name=SHOWN.get(name, name), kind=_kind(name), lengths=LENGTHS, f1=tuple(f1))
            for name, f1 in results.liked_f1.items()
        ),
        training=Training(
            unit="steps",
            curves=tuple(_training_curve(SHOWN[name], curve) for name, curve in curves.items()),
        ),
        examples=tuple(_examples(results)),
        categories=_categories(scores[MAIN], scores["rule"]),
        notes=demo_notes(results),
        commands=('pip install ".[minilm]"', f"palate demo --out {results.runs[MAIN].path.parent}"),
    )


def _by_shown_name(text: str) -> str:
    """Replace a leading run name by its name in the report."""
    run, colon, rest = text.partition(":")
    return SHOWN.get(run, run) + colon + rest


def _kind(name: str) -> PredictorKind:
    if name in SHOWN:
        return "model"
    if name in CONTROLS:
        return "control"
    return "rule" if name == "rule" else "reference"


def _steps(name: str, results: DemoResults) -> int:
    record = model_settings(results.runs[name].path).training
    return 0 if record is None else record.steps


def _order(row: ScoreRow) -> tuple[int, float]:
    return ORDER.index(row.kind), -row.f1.value


def _score_row(one: PredictorScores, results: DemoResults, trained: dict[str, float]) -> ScoreRow:
    liked = one.scores.liked
    run, comma, rest = one.name.partition(",")
    return ScoreRow(
        predictor=SHOWN.get(run, run) + comma + rest,
        kind=_kind(one.name),
        precision=_score(liked.precision),
        recall=_score(liked.recall),
        f1=_score(liked.f1),
        disliked_f1=_score(one.scores.disliked.f1),
        joint_f1=_score(one.scores.joint.f1),
        prompt_tokens=_prompt_tokens(run, results),
        training_seconds=trained.get(one.name),
        note=NOTES.get(one.name, ""),
    )


def _score(measured: Score) -> ShownScore:
    return ShownScore(value=measured.value, low=measured.low, high=measured.high)


def _prompt_tokens(run: str, results: DemoResults) -> float | None:
    """Compute the mean number of user-prompt vectors over test users; None for references."""
    if run not in SHOWN:
        return None
    predictor = next(one for one in results.comparison.predictors if one.name == run)
    assert isinstance(predictor, PersonalizedPredictor)
    return float(predictor.prompt_lengths(results.comparison.examples.windows).mean())


def _training_curve(name: str, curve: Curve) -> TrainingCurve:
    """Convert a run's curve: loss and dev score by step."""
    scored = [(row.step, row.f1) for row in curve.scores if row.f1 is not None]
    return TrainingCurve(
        name=name,
        x=tuple(row.step for row in curve.losses),
        loss=tuple(row.loss for row in curve.losses),
        dev_x=tuple(step for step, _ in scored),
        dev_f1=tuple(f1 for _, f1 in scored),
    )


def _categories(model: PredictorScores, rule: PredictorScores) -> CategoryComparison:
    rows = [
        CategoryF1(
            category=name,
            users=own.liked_users,
            model=own.liked_f1,
            rule=rule.per_category[name].liked_f1,
        )
        for name, own in model.per_category.items()
        if own.liked_users
    ]
    rows.sort(key=lambda row: -row.users)
    return CategoryComparison(model=SHOWN[MAIN], rows=tuple(rows))


def _examples(results: DemoResults) -> Iterator[ExampleUser]:
    """Select the first test users, preferring those whose history is longer than the window."""
    dataset, examples = results.comparison.dataset, results.comparison.examples
    hidden = dataset.interactions.lengths[examples.user_index] > examples.windows.length
    for row in np.argsort(~hidden, kind="stable")[:EXAMPLES].tolist():
        user_id = dataset.user_ids[int(examples.user_index[row])]
        answers = {one.predictor: one for one in results.evaluation.predictions if one.user_id == user_id}
        items = _rated_items(results, row)
        yield ExampleUser(
            user_id=user_id,
            window_size=int(examples.windows.length[row]),
            highest=tuple(items[:ITEMS]),
            lowest=tuple(items[: -ITEMS - 1 : -1]),
            truth_text=results.comparison.task.target_texts(examples.truth[row : row + 1])[0],
            truth=Labels(liked=answers[MAIN].truth_liked, disliked=answers[MAIN].truth_disliked),
            answers=tuple(_answer(answers[name]) for name in (MAIN, PAPER, "rule")),
        )


def _answer(prediction: Prediction) -> ExampleAnswer:
    return ExampleAnswer(
        predictor=SHOWN.get(prediction.predictor, prediction.predictor),
        kind=_kind(prediction.predictor),
        text=prediction.answer,
        labels=Labels(liked=prediction.liked, disliked=prediction.disliked),
    )


def _rated_items(results: DemoResults, row: int) -> list[ExampleItem]:
    """List the items of a window, highest ratings first."""
    dataset, windows = results.comparison.dataset, results.comparison.examples.windows
    length = int(windows.length[row])
    ratings = dataset.rating_values[windows.rating_index[row, :length]]
    shown = dataset.items.select("title", "year", "categories").rows()
    items = []
    for place in np.argsort(-ratings, kind="stable").tolist():
        title, year, categories = shown[int(windows.item_index[row, place])]
        items.append(
            ExampleItem(
                title=f"{title} ({year})" if year else title,
                categories=tuple(categories),
                rating=float(ratings[place]),
            )
        )
    return items
