"""The references that every table shows beside a model, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from palate.errors import RecipeError
from palate.predictors.base import Predictor
from palate.predictors.boosting import Boosting
from palate.predictors.controls import Population
from palate.predictors.counting import Counting
from palate.predictors.rule import Rule
from palate.predictors.shrinkage import Shrinkage

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import WindowKind
    from palate.tasks.category_preference import CategoryPreference

REFERENCES = (Population.name, Counting.name, Rule.name, Shrinkage.name, Boosting.name)


def references(
    dataset: Dataset, task: CategoryPreference, names: Iterable[str], kind: WindowKind = "recent"
) -> list[Predictor]:
    """The references of these names, which will be shown windows of this kind.

    Raises :class:`RecipeError` for an unknown name, before any of them is fitted.
    """
    factories: dict[str, Callable[[], Predictor]] = {
        Population.name: lambda: Population(dataset, task),
        Counting.name: lambda: Counting(dataset, task),
        Rule.name: lambda: Rule(dataset, task),
        Shrinkage.name: lambda: Shrinkage(dataset, task, kind),
        Boosting.name: lambda: Boosting(dataset, task, kind),
    }
    names = list(names)
    for name in names:
        if name not in factories:
            close = difflib.get_close_matches(name.lower(), factories, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise RecipeError(f"no reference is called {name!r}; there are {', '.join(factories)}{hint}")
    return [factories[name]() for name in names]
