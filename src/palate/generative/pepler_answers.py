"""Explanations of a trained PEPLER for users and items, and its scores on the interactions that its run held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from palate.errors import DataError, MismatchError, did_you_mean, unknown_items
from palate.generative.pepler import Pairs
from palate.generative.pepler_cases import split_texts
from palate.generative.pepler_scores import TOKENS_A_WORD, PeplerScores, reference_scores, score_pepler
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.system.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.generative.pepler_files import TrainedPepler


class WrittenExplanation(Frozen):
    """What is said to a user of an item."""

    item_id: str
    text: str
    rating: float | None = None
    """The predicted rating, within the scale; None without rating regularisation."""


def explain_items(trained: TrainedPepler, user_id: str, item_ids: Sequence[str]) -> list[WrittenExplanation]:
    """Write an explanation of each item for a user who was trained on.

    Raises:
        DataError: The user or an item is unknown, or the user was not trained on and has no vector.
    """
    record, model = trained.record, trained.model
    user = trained.user_index(user_id)
    if user is None:
        raise DataError(f"no user {user_id!r} among those of the run{did_you_mean(user_id, record.user_ids)}")
    if not bool(model.trained[user]):
        raise DataError(
            f"nothing was learned of the user {user_id!r}, who has no vector; take a user of the training"
        )
    known = [trained.item_index(one) for one in item_ids]
    if unknown := [one for one, index in zip(item_ids, known, strict=True) if index is None]:
        raise unknown_items(unknown)
    item = torch.tensor(known, device=model.device)
    pairs = Pairs(torch.full_like(item, user), item)
    texts = model.explain(pairs, TOKENS_A_WORD * model.settings.max_words)
    ratings: list[float | None] = [None] * len(known)
    if model.settings.rating != "none":
        with torch.no_grad():
            found = model.ratings(pairs).clamp(min(record.rating_values), max(record.rating_values))
        ratings = [round(one, 3) for one in found.tolist()]
    return [
        WrittenExplanation(
            item_id=one, text=" ".join(text.split()[: model.settings.max_words]), rating=rating
        )
        for one, text, rating in zip(item_ids, texts, ratings, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """Scores of a run and of references, and what was written."""

    data: str
    scores: list[PeplerScores]
    answers: list[dict[str, Any]]


def score_held_out(
    trained: TrainedPepler, run: Path, part: Literal["dev", "test"], data: Path | None = None
) -> HeldOutScores:
    """Score a run's explanations and ratings on the interactions that it held out.

    Args:
        trained: The model.
        run: Its run.
        part: ``dev`` or ``test``; the references are beside ``test``.
        data: The dataset's folder, if it has moved.

    Returns:
        The scores and the texts.

    Raises:
        MismatchError: The data is not what the run was trained on.
    """
    folder = load_run(run)
    dataset = dataset_of(folder, data)
    if dataset.info.fingerprint != trained.record.data_fingerprint:
        raise MismatchError(
            f"{run} was trained on other data than {dataset.path}; name the dataset that it was trained on with --data"
        )
    split = split_texts(dataset, trained.record.settings, folder.recipe.seed)
    cases = split.test if part == "test" else split.dev
    own, texts, ratings = score_pepler(trained.model, cases, dataset.info.rating_values)
    scores = [own, *(reference_scores(dataset, split) if part == "test" else [])]
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
