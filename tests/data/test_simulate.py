"""Simulated users: derived from training users alone, with similar statistics, reproducible by seed."""

from dataclasses import fields, replace

import numpy as np
import pytest

from palate.config.recipe import TaskSettings
from palate.data.simulate import FittedPopulation, fit_population, simulate_users
from palate.errors import LeakageError
from palate.schema import Interactions
from palate.tasks import load_task
from palate.tasks.statistics import category_statistics
from tiny import made_up_table, prepare_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_tiny(tmp_path_factory.mktemp("population"), users=200)


@pytest.fixture(scope="module")
def vectors(data):
    return made_up_table(data).vectors


@pytest.fixture(scope="module")
def population(data, vectors):
    return fit_population(data, vectors, np.random.default_rng(0))


def columns(interactions):
    return [getattr(interactions, field.name) for field in fields(Interactions)]


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(columns(one), columns(other), strict=True))


def same_population(one, other):
    names = [field.name for field in fields(FittedPopulation) if field.name != "histories"]
    return same(one.histories, other.histories) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


def with_other_ratings(data, split):
    """The same data, but the users of a split rate everything the other way round."""
    events = data.interactions
    owner = np.repeat(np.arange(len(events.lengths)), events.lengths)
    turned = np.isin(owner, data.users(split))
    rating_index = np.where(turned, 4 - events.rating_index, events.rating_index).astype(np.uint8)
    return replace(data, interactions=replace(events, rating_index=rating_index))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_ratings_of_held_out_users_do_not_matter(data, vectors, population, split):
    other = fit_population(with_other_ratings(data, split), vectors, np.random.default_rng(0))
    assert same_population(population, other)


def test_ratings_of_training_users_do(data, vectors, population):
    other = fit_population(with_other_ratings(data, "train"), vectors, np.random.default_rng(0))
    assert not same_population(population, other)


def test_templates_are_training_users(data, population):
    assert len(population.taste) == len(data.users("train"))
    lengths = data.interactions.lengths[data.users("train")]
    assert population.histories.lengths.tolist() == lengths.tolist()


def test_a_dataset_that_gives_out_others_is_refused(data, vectors, monkeypatch):
    """The check stands on its own: it fails when the choice of users is changed by mistake."""
    from palate.data import simulate

    real = simulate.require_training_users
    monkeypatch.setattr(
        simulate, "require_training_users", lambda *given: real(given[0], data.users("test"), given[2])
    )
    with pytest.raises(LeakageError, match="the simulation may only use training users"):
        fit_population(data, vectors, np.random.default_rng(0))


def test_the_seed_makes_the_users(population):
    first, again, other = (simulate_users(population, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_simulated_histories_are_whole(data, population):
    users = simulate_users(population, 300, np.random.default_rng(0))
    assert len(users.offsets) == 301
    assert users.offsets[-1] == len(users.item_index) == len(users.rating_index) == len(users.timestamp)
    assert set(users.lengths) <= set(population.histories.lengths)
    assert users.rating_index.max() < len(data.rating_values)
    assert set(users.item_index) <= set(population.histories.item_index)
    within = np.diff(users.timestamp)
    starts = users.offsets[1:-1] - 1
    assert (np.delete(within, starts) >= 0).all()  # oldest first


def test_no_users_can_be_asked_for(population):
    assert len(simulate_users(population, 0, np.random.default_rng(0))) == 0


def test_simulated_users_are_like_real_ones(data, population):
    users = simulate_users(population, 1000, np.random.default_rng(0))
    real = population.histories
    mean, simulated_mean = (data.rating_values[one.rating_index].mean() for one in (real, users))
    assert simulated_mean == pytest.approx(mean, abs=0.15)
    spread, simulated_spread = (data.rating_values[one.rating_index].std() for one in (real, users))
    assert simulated_spread == pytest.approx(spread, rel=0.15)

    task = load_task(TaskSettings(), data.info)
    labelled = []
    for one in (real, users):
        labels = task.labels(category_statistics(one, data.category_matrix, data.rating_values))
        labelled.append([(labels.liked >= 0).sum(axis=1).mean(), (labels.disliked >= 0).sum(axis=1).mean()])
    assert labelled[1] == pytest.approx(labelled[0], abs=0.4)


def test_simulated_users_have_tastes_of_their_own(data, population):
    """Means by category differ from user to user as much as those of real users do."""
    users = simulate_users(population, 1000, np.random.default_rng(0))
    spreads = []
    for one in (population.histories, users):
        statistics = category_statistics(one, data.category_matrix, data.rating_values)
        mean = statistics.total / np.maximum(statistics.count, 1)
        spreads.append([mean[statistics.count[:, label] >= 5, label].std() for label in range(5)])
    assert spreads[1] == pytest.approx(spreads[0], rel=0.35)
