"""Registers palate's references and fits them by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from palate.config.registry import predictors
from palate.evaluation.predictors.base import Predictor
from palate.evaluation.predictors.boosting import Boosting
from palate.evaluation.predictors.controls import DrawnByFrequency, Population
from palate.evaluation.predictors.counting import Counting
from palate.evaluation.predictors.rule import Rule
from palate.evaluation.predictors.shrinkage import Shrinkage

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import WindowKind
    from palate.tasks.category_preference import CategoryPreference


predictors.register(Population.name, lambda dataset, task, kind: Population(dataset, task))
predictors.register(DrawnByFrequency.name, lambda dataset, task, kind: DrawnByFrequency(dataset, task))
predictors.register(Counting.name, lambda dataset, task, kind: Counting(dataset, task))
predictors.register(Rule.name, lambda dataset, task, kind: Rule(dataset, task))
predictors.register(Shrinkage.name, Shrinkage)
predictors.register(Boosting.name, Boosting)


def references(
    dataset: Dataset, task: CategoryPreference, names: Iterable[str], kind: WindowKind = "recent"
) -> list[Predictor]:
    """Fit registered references, for windows of this kind.

    Raises:
        RecipeError: A name is not registered; raised before anything is fitted.
    """
    factories = [predictors.find(name) for name in names]
    return [build(dataset, task, kind) for build in factories]
