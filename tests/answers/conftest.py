"""Fixtures: a small movie dataset and a recommender fitted to it."""

import pytest

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.recommend.fit import fit_recommender
from small_dataset import small_dataset


@pytest.fixture(scope="session")
def settings():
    """Return settings with which a recommender is fitted in a second."""
    return RecommendSettings(
        texts=False, rounds=1, rating_rank=3, rating_iterations=4, rating_models=2, network_size=0, ridge=50.0
    )


@pytest.fixture(scope="module")
def films():
    """A small dataset with ratings."""
    return small_dataset()


@pytest.fixture(scope="module")
def recommender(films, settings):
    """A recommender that was fitted to its training users."""
    return fit_recommender(films, films.users("train"), settings, ItemSettings(), seed=1)
