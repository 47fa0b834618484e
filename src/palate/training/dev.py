"""How good a model is on dev users while it is trained, and what it must beat to have learned anything."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from palate.data.windows import make_examples
from palate.evaluation.evaluate import ask
from palate.evaluation.predictors.controls import AnotherUsersHistory, Population
from palate.model.record import DevScores
from palate.schema import Examples

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.evaluation.predictors.base import Predictor
    from palate.tasks import CategoryPreference


@dataclass(frozen=True)
class DevScore:
    """A predictor's score on the dev users; the mean over the windows that the recipe names."""

    f1: float
    """Liked F1."""
    unreadable: float
    """Share of answers in which no label was found and which do not say that there is none."""


class DevUsers:
    """The dev users that a training is scored on, at each of the recipe's windows."""

    def __init__(self, recipe: Recipe, dataset: Dataset, task: CategoryPreference) -> None:
        self.dataset, self.task = dataset, task
        windows = recipe.train.eval_windows or (recipe.evaluate.window,)
        self.examples = [_examples(recipe, dataset, task, window) for window in windows]

    def score(self, predictor: Predictor) -> DevScore:
        """Ask the predictor about every dev user."""
        answers = [ask(predictor, examples, self.task) for examples in self.examples]
        return DevScore(mean(one.liked_f1 for one in answers), mean(one.unreadable for one in answers))

    def compared(self, predictor: Predictor) -> DevScores:
        """The predictor's score beside those of what knows nothing of the user."""
        own, users = self.score(predictor), len(self.examples[0])
        return DevScores(
            users=users,
            f1=own.f1,
            another_user=self.score(AnotherUsersHistory(predictor)).f1 if users > 1 else None,
            population=self.score(Population(self.dataset, self.task)).f1,
            unreadable=own.unreadable,
        )


def _examples(recipe: Recipe, dataset: Dataset, task: CategoryPreference, window: int) -> Examples:
    examples = make_examples(dataset, task, "dev", window, recipe.windows.kind, seed=recipe.seed)
    first = slice(recipe.train.eval_users)
    return Examples(examples.user_index[first], examples.windows[first], examples.truth[first])
