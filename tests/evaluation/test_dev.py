"""The dev score of a training equals the evaluator's."""

import pytest

from palate.config.recipe import Recipe
from palate.data.windows import make_examples
from palate.evaluation.dev import DevUsers
from palate.evaluation.evaluate import Setting, score_predictors
from palate.evaluation.predictors.controls import Population
from palate.tasks import load_task
from small_dataset import small_dataset


def test_the_dev_score_is_what_the_evaluator_gives_the_same_users():
    dataset = small_dataset()
    recipe = Recipe()
    task = load_task(recipe.task, dataset.info)
    predictor = Population(dataset, task)
    setting = Setting(split="dev", window=recipe.evaluate.window, kind=recipe.windows.kind, seed=recipe.seed)
    examples = make_examples(dataset, task, setting.split, setting.window, setting.kind, setting.seed)
    expected = score_predictors([predictor], examples, task, dataset, setting).predictors[0]
    found = DevUsers(recipe, dataset, task).score(predictor)
    assert found.f1 == pytest.approx(expected.scores.liked.f1.value, abs=1e-12)
    assert found.unreadable == expected.unreadable
