"""Scores of PEPLER's explanations and ratings on held-out interactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.generative.pepler import TOKENS_A_WORD, Pairs, Pepler
from palate.generative.text_metrics import TextScore, TextScores, score_texts
from palate.schema import Doubles
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.generative.pepler_cases import RatedTexts

_BATCH = 128
_RESAMPLES = 1000


class ErrorScores(Frozen):
    """Errors of N predicted ratings, which are clipped to the scale."""

    rmse: TextScore
    mae: TextScore
    ratings: int


class PeplerScores(Frozen):
    """Scores of one system on held-out interactions; None for answers that it does not give."""

    name: str
    texts: TextScores | None
    ratings: ErrorScores | None


@torch.no_grad()
def explained(model: Pepler, cases: RatedTexts, vectors: torch.Tensor | None = None) -> list[str]:
    """Generate an explanation for each of N interactions from its user and item only.

    Args:
        model: The model.
        cases: The interactions, whose ratings and texts are not read.
        vectors: Vectors in the place of the users' own, [N, E].

    Returns:
        Texts of at most ``max_words`` words.
    """
    most = model.settings.max_words
    texts: list[str] = []
    for start in range(0, len(cases), _BATCH):
        rows = slice(start, start + _BATCH)
        written = model.explain(_pairs(model, cases, rows, vectors), TOKENS_A_WORD * most)
        texts += [" ".join(text.split()[:most]) for text in written]
    return texts


@torch.no_grad()
def rated(model: Pepler, cases: RatedTexts, vectors: torch.Tensor | None = None) -> Doubles:
    """Predict the ratings of N interactions, [N], likewise."""
    found = [
        model.ratings(_pairs(model, cases, slice(start, start + 4096), vectors)).double().cpu().numpy()
        for start in range(0, len(cases), 4096)
    ]
    return np.concatenate(found)


def _pairs(model: Pepler, cases: RatedTexts, rows: slice, vectors: torch.Tensor | None) -> Pairs:
    user, item = (torch.from_numpy(column[rows]).to(model.device) for column in (cases.user, cases.item))
    return Pairs(user, item, None if vectors is None else vectors[rows])


def score_pepler(
    model: Pepler,
    cases: RatedTexts,
    values: Sequence[float],
    name: str = "PEPLER",
    vectors: torch.Tensor | None = None,
    seed: int = 0,
) -> tuple[PeplerScores, list[str] | None, Doubles | None]:
    """Score a model on N held-out interactions.

    Args:
        model: The model.
        cases: The interactions.
        values: The rating scale.
        name: Name of the system in tables.
        vectors: Vectors in the place of the users' own, [N, E].
        seed: Seed of the intervals.

    Returns:
        The scores, the explanations and the predicted ratings.
    """
    texts, ratings = None, None
    if cases.texts is not None:
        texts = explained(model, cases, vectors)
    if model.settings.rating != "none":
        ratings = rated(model, cases, vectors)
    scores = PeplerScores(
        name=name,
        texts=None if texts is None or cases.texts is None else score_texts(texts, cases.texts, seed),
        ratings=None if ratings is None else score_errors(ratings, cases.rating, values, seed),
    )
    return scores, texts, ratings


def score_errors(predicted: Doubles, true: Doubles, values: Sequence[float], seed: int = 0) -> ErrorScores:
    """Compute the root mean squared and the mean absolute error of N ratings, with bootstrap intervals."""
    error = np.clip(predicted, min(values), max(values)) - true
    rng = np.random.default_rng(seed)
    drawn = [error[rng.integers(len(error), size=len(error))] for _ in range(_RESAMPLES)]

    def one(measure: str) -> TextScore:
        value, *resampled = (
            float(np.sqrt((part**2).mean()) if measure == "rmse" else np.abs(part).mean())
            for part in (error, *drawn)
        )
        low, high = np.percentile(resampled, [2.5, 97.5])
        return TextScore(value=value, low=float(low), high=float(high))

    return ErrorScores(rmse=one("rmse"), mae=one("mae"), ratings=len(true))
