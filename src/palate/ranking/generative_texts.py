"""Evaluation of P5 and POD on held-out interactions: ratings, explanations, and ratings from reviews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV

from palate.config.recipe import PeplerSettings
from palate.data.windows import draw_windows
from palate.errors import RecipeError
from palate.generative.pepler_cases import RatedTexts, RatedTextSplit, split_texts
from palate.generative.pepler_scores import PeplerScores, score_errors
from palate.generative.text_metrics import score_texts
from palate.ranking.explanations import HeldOutScores, reference_scores
from palate.schema import Doubles

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.generative.recommender import GenerativeRecommender

RATED, EXPLAINED, EXPLAINED_STARS, REVIEWED = (
    "rating",
    "explanation",
    "explanation of the true stars",
    "stars of the review",
)
PROMPT_WORDINGS = ("held-out", "trained")
"""The wordings of a prompt: the one that is excluded from training, and the first trained one."""


def worded(name: str, wording: str) -> str:
    """Name a row of scores by its task and the wording of its prompts, which is only said of trained ones."""
    return name if wording == "held-out" else f"{name}, {wording} wording"


def held_out_of(dataset: Dataset, recipe: Recipe) -> RatedTextSplit:
    """Split interactions as PEPLER does under ``leave-last-out``, so that both are scored on the same ones.

    Raises:
        RecipeError: The run was trained with another protocol.
        DataError: The data has no ratings, or a part is empty.
    """
    if recipe.data.protocol != "leave-last-out":
        raise RecipeError(
            f"the run was trained with data.protocol={recipe.data.protocol or 'null'}, but held-out texts are those "
            "of leave-last-out; train it with that protocol, or score it with palate rank"
        )
    return split_texts(dataset, PeplerSettings(protocol="leave-last-out"), recipe.seed)


def score_generative_texts(
    recommender: GenerativeRecommender, recipe: Recipe, dataset: Dataset, seed: int = 0
) -> HeldOutScores:
    """Score a run's trained tasks, of rating, explanation and review, on each user's last interaction.

    Explanations are generated from user and item alone, as PEPLER's are, and, in a separate row, also from the true
    rating, as P5's published ones are. Each task is scored in the wording that is excluded from training, and in a
    trained one: a T5 from random weights may not know the words of the former.

    Args:
        recommender: Trained model.
        recipe: Recipe of the run.
        dataset: Dataset of the run.
        seed: Seed of bootstrap intervals and random references.

    Returns:
        A row of scores per task and wording, then those of the references; and the answers.

    Raises:
        RecipeError: The run was trained with another protocol, or on none of the three tasks.
        DataError: The data has no ratings.
    """
    split = held_out_of(dataset, recipe)
    cases, values = split.test, dataset.info.rating_values
    families = recommender.model.settings.families
    scores: list[PeplerScores] = []
    answers = [_case(dataset, cases, row) for row in range(len(cases))]

    def rated(name: str, ratings: Doubles) -> None:
        errors = score_errors(ratings, cases.rating, values, seed)
        scores.append(PeplerScores(name=name, texts=None, ratings=errors))
        for answer, rating in zip(answers, ratings.tolist(), strict=True):
            answer[name] = round(rating, 3)

    def written(name: str, texts: Sequence[str]) -> None:
        assert cases.texts is not None
        scores.append(PeplerScores(name=name, texts=score_texts(texts, cases.texts, seed), ratings=None))
        for answer, text in zip(answers, texts, strict=True):
            answer[name] = text

    by_wording = {
        wording: _Asked(
            replace(recommender, asked=recommender.asked.model_copy(update={"prompt": wording})),
            dataset,
            cases,
        )
        for wording in PROMPT_WORDINGS
    }
    for wording, asked in by_wording.items():
        if "rating" in families:
            rated(worded(RATED, wording), asked.ratings())
    for wording, asked in by_wording.items():
        if "explanation" in families:
            written(worded(EXPLAINED, wording), asked.explanations(with_stars=False))
            written(worded(EXPLAINED_STARS, wording), asked.explanations(with_stars=True))
    for wording, asked in by_wording.items():
        if "review" in families:
            rated(worded(REVIEWED, wording), asked.ratings_of_reviews())
    if not scores:
        raise RecipeError(
            f"the run was trained on {', '.join(families)}, but held-out interactions are scored on rating, "
            "explanation and review; rank items with palate rank"
        )
    scores += reference_scores(dataset, split, seed)
    if "review" in families:
        name = "ridge regression of the review's words"
        errors = score_errors(_ridge_of_words(split), cases.rating, values, seed)
        scores.append(PeplerScores(name=name, texts=None, ratings=errors))
    return HeldOutScores(dataset.info.name, scores, answers)


def _case(dataset: Dataset, cases: RatedTexts, row: int) -> dict[str, Any]:
    """Return an interaction's user, item, rating and text."""
    found: dict[str, Any] = {
        "user_id": dataset.user_ids[cases.user[row]],
        "item_id": dataset.item_ids[cases.item[row]],
        "stars": float(cases.rating[row]),
    }
    return found if cases.texts is None else found | {"review": cases.texts[row]}


@dataclass(frozen=True, eq=False)
class _Asked:
    """Predictions for N held-out interactions."""

    recommender: GenerativeRecommender
    dataset: Dataset
    cases: RatedTexts

    def ratings(self) -> Doubles:
        """Predict the ratings [N]; windows are ignored, because all users have trained ids."""
        users = self.cases.user
        windows = draw_windows(self.dataset.interactions, users, 1, "recent", np.random.default_rng(0))
        items = self.cases.item[:, None].astype(np.int32)
        return self.recommender.expected_ratings(windows, users, items).mean[:, 0]

    def explanations(self, with_stars: bool) -> list[str]:
        """Generate a text for each interaction, optionally given the true rating."""
        wording = self.recommender.facts.wording
        fields = [
            {"who": wording.who(int(user)), "item": wording.items[item], "stars": f"{stars:g}"}
            for user, item, stars in zip(
                self.cases.user.tolist(), self.cases.item.tolist(), self.cases.rating.tolist(), strict=True
            )
        ]
        return self.recommender.write("explanation", "text of stars" if with_stars else "text", fields)

    def ratings_of_reviews(self) -> Doubles:
        """Predict the ratings [N] from the texts alone."""
        assert self.cases.texts is not None
        return self.recommender.ratings_of_reviews(self.cases.texts)


def _ridge_of_words(split: RatedTextSplit) -> Doubles:
    """Predict test ratings from their texts, by ridge regression on TF-IDF features of the training texts."""
    assert split.training.texts is not None
    assert split.test.texts is not None
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = RidgeCV(np.logspace(-1, 2, 7)).fit(
        words.fit_transform(split.training.texts), split.training.rating
    )
    found: Doubles = model.predict(words.transform(split.test.texts))
    return found
