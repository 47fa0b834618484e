"""The references that every table shows beside a model, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from palate.predictors.base import Predictor
from palate.predictors.boosting import Boosting
from palate.predictors.controls import Population
from palate.predictors.counting import Counting
from palate.predictors.rule import Rule
from palate.predictors.shrinkage import Shrinkage
from palate.registry import predictors

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import WindowKind
    from palate.tasks.category_preference import CategoryPreference


predictors.register(Population.name, lambda dataset, task, kind: Population(dataset, task))
predictors.register(Counting.name, lambda dataset, task, kind: Counting(dataset, task))
predictors.register(Rule.name, lambda dataset, task, kind: Rule(dataset, task))
predictors.register(Shrinkage.name, Shrinkage)
predictors.register(Boosting.name, Boosting)


def references(
    dataset: Dataset, task: CategoryPreference, names: Iterable[str], kind: WindowKind = "recent"
) -> list[Predictor]:
    """Fit registered references, which will be shown windows of this kind.

    Raises:
        RecipeError: No reference is registered by one of the names; none has been fitted then.
    """
    factories = [predictors.find(name) for name in names]
    return [build(dataset, task, kind) for build in factories]
