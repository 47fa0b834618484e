"""Evaluation of PEPLER on its run's held-out interactions, with references that need no language model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from palate.data.protocols import training_view
from palate.data.windows import draw_windows
from palate.errors import MismatchError
from palate.generative.newcomers import newcomer_histories
from palate.generative.pepler_cases import RatedTexts, RatedTextSplit, split_texts
from palate.generative.pepler_scores import PeplerScores, score_errors, score_pepler
from palate.generative.text_metrics import score_texts
from palate.ranking.ratings.biased_mf import BiasedMf, BiasedMfSettings
from palate.ranking.ratings.item_mean import ItemMean, ItemMeanSettings
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Doubles

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.generative.newcomers import KnownHistories
    from palate.generative.pepler import Pepler
    from palate.generative.pepler_files import TrainedPepler
    from palate.ranking.ratings.base import RatingPredictor


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """Scores of a run and of references, and the generated texts."""

    data: str
    scores: list[PeplerScores]
    answers: list[dict[str, Any]]


def score_held_out(
    trained: TrainedPepler, run: Path, part: Literal["dev", "test"], data: Path | None = None
) -> HeldOutScores:
    """Score a run's explanations and ratings on the interactions that it held out.

    Args:
        trained: Trained model.
        run: Folder of its run.
        part: Held-out part; references are scored on ``test`` only.
        data: Folder of the dataset, if it has moved.

    Returns:
        The scores and the generated texts.

    Raises:
        MismatchError: The data is not the run's training data.
    """
    folder = load_run(run)
    dataset = dataset_of(folder, data)
    if dataset.info.fingerprint != trained.record.data_fingerprint:
        raise MismatchError(
            f"{run} was trained on other data than {dataset.path}; name the run's training data with --data"
        )
    split = split_texts(dataset, trained.record.settings, folder.recipe.seed)
    cases = split.test if part == "test" else split.dev
    values = dataset.info.rating_values
    if trained.record.settings.protocol == "new-users":  # test users have no trained id vectors
        own, texts, ratings = score_pepler(
            trained.model, cases, values, "PEPLER, mean id", _mean_users(trained, cases)
        )
    else:
        own, texts, ratings = score_pepler(trained.model, cases, values)
    scores = [own, *_without_ids(trained, folder.recipe, dataset, split, cases)]
    scores += reference_scores(dataset, split) if part == "test" else []
    answers = []
    for row in range(len(cases)):
        answer: dict[str, Any] = {
            "user_id": dataset.user_ids[cases.user[row]],
            "item_id": dataset.item_ids[cases.item[row]],
            "rating": float(cases.rating[row]),
        }
        if texts is not None and cases.texts is not None:
            answer |= {"explanation": texts[row], "review": cases.texts[row]}
        if ratings is not None:
            answer["predicted"] = round(float(ratings[row]), 3)
        answers.append(answer)
    return HeldOutScores(dataset.info.name, scores, answers)


def _mean_users(trained: TrainedPepler, cases: RatedTexts) -> torch.Tensor | None:
    if trained.record.settings.prompt == "discrete":
        return None
    return trained.model.mean_user.expand(len(cases), -1)


def _without_ids(
    trained: TrainedPepler, recipe: Recipe, dataset: Dataset, split: RatedTextSplit, cases: RatedTexts
) -> list[PeplerScores]:
    """Score the model with vectors in place of user ids: the mean one, and a user encoder's from histories."""
    model, values, found = trained.model, dataset.info.rating_values, []
    if model.newcomers is None:
        return []
    if trained.record.settings.protocol != "new-users":
        found.append(score_pepler(model, cases, values, "mean id", _mean_users(trained, cases))[0])
    vectors = history_vectors(model, newcomer_histories(recipe, dataset, split), cases)
    name = "from the history" + (" with texts" if recipe.model.event_texts else "")
    return [*found, score_pepler(model, cases, values, name, vectors)[0]]


@torch.no_grad()
def history_vectors(model: Pepler, histories: KnownHistories, cases: RatedTexts) -> torch.Tensor:
    """Encode the users of N interactions from their histories, [N, E]."""
    assert model.newcomers is not None
    parts = [cases.of(np.arange(start, min(start + 256, len(cases)))) for start in range(0, len(cases), 256)]
    return torch.cat([model.newcomers(histories.windows(part)) for part in parts])


def reference_scores(dataset: Dataset, split: RatedTextSplit, seed: int = 0) -> list[PeplerScores]:
    """Score references without a language model on the test interactions.

    Ratings: the mean of all training ratings, the item's mean with the user's offset, and biased matrix factorisation
    with users folded in from their histories. Texts: the most common training text, a random training text of the same
    item, and the user's newest training text, which some users repeat word for word.
    """
    cases, found = split.test, []
    view = training_view(dataset, split.known)
    predictors: dict[str, RatingPredictor] = {
        "item mean + user's offset": ItemMean(ItemMeanSettings()),
        "biased MF": BiasedMf(BiasedMfSettings()),
    }
    predictions = {"mean of the training ratings": np.full(len(cases), split.training.rating.mean())}
    predictions |= {name: _predicted(one, view, dataset, cases) for name, one in predictors.items()}
    for name, ratings in predictions.items():
        errors = score_errors(ratings, cases.rating, dataset.info.rating_values)
        found.append(PeplerScores(name=name, texts=None, ratings=errors))
    texts = split.training.texts
    if texts is None or cases.texts is None:
        return found
    common = Counter(texts).most_common(1)[0][0]
    rng = np.random.default_rng(seed)
    of_item: dict[int, list[str]] = {}
    for item, text in zip(split.training.item.tolist(), texts, strict=True):
        of_item.setdefault(item, []).append(text)
    copied = [of_item[item][rng.integers(len(of_item[item]))] for item in cases.item.tolist()]
    newest = dict(zip(split.training.user.tolist(), texts, strict=True))
    for name, written in (
        ("the most common text", [common] * len(cases)),
        ("the user's previous text", [newest.get(user, common) for user in cases.user.tolist()]),
        ("somebody else's text of the item", copied),
    ):
        found.append(PeplerScores(name=name, texts=score_texts(written, cases.texts, seed), ratings=None))
    return found


def _predicted(predictor: RatingPredictor, view: Dataset, dataset: Dataset, cases: RatedTexts) -> Doubles:
    predictor.fit(view)
    longest = max(int(view.interactions.lengths.max()), 1)
    parts = []
    for start in range(0, len(cases), 1024):
        rows = slice(start, start + 1024)
        windows = draw_windows(
            view.interactions, cases.user[rows], longest, "recent", np.random.default_rng(0)
        )
        times = dataset.interactions.timestamp[cases.row[rows]]
        parts.append(
            predictor.predict(windows, cases.item[rows, None].astype(np.int32), times[:, None]).mean[:, 0]
        )
    return np.concatenate(parts)
