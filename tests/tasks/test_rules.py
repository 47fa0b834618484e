"""Label rules besides the paper's: relative to the user's mean, and by population quantiles."""

from dataclasses import replace

import numpy as np
import pytest

from palate.config.recipe import TaskSettings
from palate.data.label_rules import proposed_rule, rule_coverage, with_label_statistics
from palate.data.windows import make_examples
from palate.errors import DataError, RecipeError
from palate.evaluation.metrics import weighted_f1
from palate.evaluation.predictors.base import fitted_to
from palate.evaluation.predictors.references import references
from palate.schema import RULES, membership
from palate.tasks import load_task
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.statistics import CategoryStatistics
from small_dataset import small_dataset

NAMES = ("Drama", "Noir", "War")


@pytest.fixture(scope="module")
def dataset():
    return with_label_statistics(small_dataset())


def of_one(counts, means, others=()):
    """Statistics of a user with so many ratings of these means, and ratings of no category."""
    counts, means = np.array([counts]), np.array([means])
    whole = (counts * means).sum() + sum(others)
    length = counts.sum() + len(others)
    return CategoryStatistics(counts, counts * means, np.array([length]), np.array([float(whole)]))


def named(task, half):
    return [task.label_names[index] for index in half[0] if index >= 0]


def test_own_mean_compares_categories_with_all_ratings_of_the_user(dataset):
    info = dataset.info.model_copy(update={"categories": NAMES})
    task = load_task(TaskSettings(rule="own-mean", margin=0.5), info)
    margin = 0.5 * info.score_statistics.spread
    user = of_one([4, 4, 4], [5.0, 4.0, 3.0], others=[4.0] * 8)  # whose mean is 4
    assert task.thresholds(user)[0] == pytest.approx([4 + margin, 4 - margin])
    truth = task.labels(user)
    assert (named(task, truth.liked), named(task, truth.disliked)) == (["Drama"], ["War"])
    harsher = of_one([4, 4, 4], [3.0, 2.0, 1.0], others=[2.0] * 8)
    truth = task.labels(harsher)
    assert (named(task, truth.liked), named(task, truth.disliked)) == (["Drama"], ["War"])
    assert load_task(TaskSettings(), info).labels(harsher).liked.max() < 0


def test_a_user_without_ratings_has_the_populations_mean(dataset):
    task = load_task(TaskSettings(rule="own-mean", margin=0.2), dataset.info)
    nothing = of_one([0] * 8, [0.0] * 8)
    known = dataset.info.score_statistics
    expected = [known.mean + 0.2 * known.spread, known.mean - 0.2 * known.spread]
    assert task.thresholds(nothing)[0] == pytest.approx(expected)
    assert (task.like_above, task.dislike_below) == pytest.approx(expected)
    assert task.labels(nothing).liked.max() < 0


def test_statistics_are_of_training_users_alone(dataset):
    events, users = dataset.interactions, dataset.users("train")
    rows = np.concatenate([np.arange(events.offsets[user], events.offsets[user + 1]) for user in users])
    ratings = dataset.rating_values[events.rating_index[rows]]
    assert dataset.info.score_statistics.mean == pytest.approx(ratings.mean())
    assert dataset.info.score_statistics.spread == pytest.approx(ratings.std())
    others = np.ones(len(events), dtype=bool)
    others[rows] = False
    changed = replace(events, rating_index=np.where(others, 0, events.rating_index).astype(np.uint8))
    assert with_label_statistics(replace(dataset, interactions=changed)).info == dataset.info


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_quantiles_leave_this_share_of_the_training_users_categories_on_either_side(dataset, share):
    task = load_task(TaskSettings(rule="quantiles", share=share), dataset.info)
    statistics = dataset.statistics[dataset.users("train")]
    scores = task.scores(statistics)[statistics.count >= 3]
    assert (scores > task.like_above).mean() == pytest.approx(share, abs=0.02)
    assert (scores < task.dislike_below).mean() == pytest.approx(share, abs=0.02)


def test_thresholds_of_a_recipe_win_over_those_of_the_rule(dataset):
    task = load_task(TaskSettings(rule="quantiles", like_above=4.5), dataset.info)
    assert task.like_above == 4.5
    again = load_task(task.settings, dataset.info)  # settings that have been filled in stay as they are
    assert again.settings == task.settings


def test_the_dataset_says_the_rule_for_recipes_that_give_none(dataset):
    info = dataset.info.model_copy(update={"rule": "own-mean"})
    assert load_task(TaskSettings(), info).settings.rule == "own-mean"
    assert load_task(TaskSettings(rule="thresholds"), info).settings.rule == "thresholds"
    assert load_task(TaskSettings(), dataset.info).settings.rule == "thresholds"


def test_every_rule_is_said_in_words(dataset):
    said = [load_task(TaskSettings(rule=rule), dataset.info).rule_in_words for rule in RULES]
    assert said[0] == "thresholds (liked: mean rating above 3.5; disliked: below 3)"
    assert said[1].startswith("own-mean (liked: mean rating over 0.198 above the user's own")
    assert said[2].startswith("quantiles (liked: mean rating above ")


def test_a_rule_that_the_data_cannot_have_is_refused(dataset):
    bare = small_dataset().info
    with pytest.raises(
        DataError, match=r"small has no statistics for the label rule 'own-mean'; run palate prep"
    ):
        load_task(TaskSettings(rule="own-mean"), bare)
    implicit = dataset.info.model_copy(update={"feedback": "implicit", "category_shares": (0.1,) * 8})
    with pytest.raises(
        RecipeError, match=r"'own-mean' is relative to a user's mean rating, but small has no ratin"
    ):
        load_task(TaskSettings(rule="own-mean"), implicit)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("truth", ["labels", "unseen"])
def test_references_learn_every_rule_and_truth(dataset, rule, truth):
    task = load_task(TaskSettings(rule=rule), dataset.info)
    examples = make_examples(dataset, task, "test", 8, "random", 0, "partly", truth)
    labels = len(task.label_names)

    def f1(name):
        one = fitted_to(references(dataset, task, [name], "random")[0], truth)
        said = task.parse(one.predict(examples.user_index, examples.windows))
        return weighted_f1(membership(examples.truth.liked, labels), membership(said.liked, labels))

    f1s = {name: f1(name) for name in ("rule", "shrinkage", "population")}
    assert f1s["shrinkage"] > f1s["rule"] + 0.03
    assert f1s["shrinkage"] > f1s["population"] - 0.05


def test_coverage_counts_users_and_labels(dataset):
    found = {one.rule: one for one in rule_coverage(dataset)}
    assert list(found) == list(RULES)
    statistics = dataset.statistics[dataset.users("train")]
    truth = load_task(TaskSettings(rule="own-mean"), dataset.info).labels(statistics)
    own = found["own-mean"]
    assert own.liked_users == np.mean([(row >= 0).any() for row in truth.liked])
    assert own.disliked == np.mean([(row >= 0).sum() for row in truth.disliked])


def test_a_rule_is_proposed_where_a_half_is_empty_for_nearly_everybody(dataset):
    assert proposed_rule(dataset) is None
    events = dataset.interactions
    kind = replace(events, rating_index=np.maximum(events.rating_index, 6).astype(np.uint8))  # 3.5 and more
    skewed = with_label_statistics(replace(dataset, interactions=kind))
    said = proposed_rule(skewed)
    assert said.startswith("only 0% of the users have a disliked genre by the label rule 'thresholds'; by '")
    assert "prepare with --rule " in said


def test_a_task_without_a_dataset_has_the_papers_rule():
    task = CategoryPreference(NAMES, "genre", TaskSettings())
    assert task.rule_in_words == "thresholds (liked: mean rating above 3.5; disliked: below 3)"
    assert task.thresholds(of_one([4, 4, 4], [5.0, 4.0, 3.0])).tolist() == [[3.5, 3.0]]
