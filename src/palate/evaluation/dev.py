"""Scores on dev users during training, and the baselines that a trained model must beat."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from palate.data.windows import make_examples
from palate.evaluation.evaluate import ReadAnswers, ask
from palate.evaluation.metrics import mean_difference, outcomes_of
from palate.evaluation.predictors.controls import AnotherUsersHistory, Population
from palate.model.record import DevScores
from palate.schema import Bools, Examples, UserChoice, membership

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.evaluation.predictors.base import Predictor
    from palate.tasks import CategoryPreference

FEWEST = 10
"""Minimum number of dev users with longer histories for a window size, if only such users are scored."""


@dataclass(frozen=True, eq=False)
class DevScore:
    """A predictor's score on dev users, averaged over the recipe's window sizes."""

    f1: float
    """Weighted F1 of the liked categories."""
    unreadable: float
    """Fraction of answers that can be parsed neither to labels nor to the statement that there are none."""
    outcomes: Bools | None = None
    """Outcomes of the U dev users by window, [W, U, 3, L], all False for users that a window leaves out; optional."""

    def is_above(self, other: DevScore) -> bool:
        """Tell whether F1 is higher than another predictor's with 95% confidence, by a paired bootstrap over users.

        Without outcomes, F1 alone is compared.
        """
        if self.outcomes is None or other.outcomes is None:
            return self.f1 > other.f1
        return mean_difference(self.outcomes, other.outcomes).low > 0


class DevUsers:
    """Dev users of a training, at each of the recipe's window sizes.

    When fine-tuning a start model, only users with longer histories than the window are used, if there are enough.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, task: CategoryPreference) -> None:
        self.dataset, self.task = dataset, task
        windows = recipe.train.eval_windows or (recipe.evaluate.window,)
        users: UserChoice = "all"
        if recipe.model.start is not None:  # a window that holds the whole history is no test
            longest = dataset.interactions.lengths[dataset.users("dev")]
            seen = tuple(one for one in windows if (longest > one).sum() >= min(FEWEST, len(longest)))
            windows, users = (seen, "partly") if seen else (windows, "all")
        self.examples = [
            _examples(recipe, dataset, task, window, recipe.seed + draw, users)
            for window in windows
            for draw in range(recipe.train.eval_draws)
        ]

    def score(self, predictor: Predictor) -> DevScore:
        """Score a predictor on all dev users."""
        answers = [ask(predictor, examples, self.task) for examples in self.examples]
        return DevScore(
            mean(one.liked_f1 for one in answers),
            mean(one.unreadable for one in answers),
            self._outcomes(answers),
        )

    def _outcomes(self, answers: list[ReadAnswers]) -> Bools:
        """Stack the outcomes of the liked labels, [W, U, 3, L]."""
        users, labels = self.dataset.users("dev"), len(self.task.label_names)
        found = np.zeros((len(answers), len(users), 3, labels), dtype=np.bool_)
        for into, examples, one in zip(found, self.examples, answers, strict=True):
            rows = np.searchsorted(users, examples.user_index)
            into[rows] = outcomes_of(*(membership(part.liked, labels) for part in (one.truth, one.said)))
        return found

    def compared(self, predictor: Predictor) -> DevScores:
        """Score a predictor and baselines without the user's own history."""
        own, users = self.score(predictor), len(self.examples[0])
        return DevScores(
            users=users,
            f1=own.f1,
            another_user=self.score(AnotherUsersHistory(predictor)).f1 if users > 1 else None,
            population=self.score(Population(self.dataset, self.task)).f1,
            unreadable=own.unreadable,
        )


def _examples(
    recipe: Recipe,
    dataset: Dataset,
    task: CategoryPreference,
    window: int,
    seed: int,
    users: UserChoice,
) -> Examples:
    examples = make_examples(dataset, task, "dev", window, recipe.windows.kind, seed, users)
    first = slice(recipe.train.eval_users)
    return Examples(examples.user_index[first], examples.windows[first], examples.truth[first])
