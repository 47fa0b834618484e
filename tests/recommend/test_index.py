"""Candidates from an index of item vectors."""

import re
import sys

import numpy as np
import pytest

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.errors import MissingExtraError
from palate.recommend.fit import fit_recommender
from palate.schema import History
from palate.system.extras import install_line
from sequence_data import sequence_dataset
from small_dataset import small_dataset

pytest.importorskip("faiss")
SETTINGS = RecommendSettings(texts=False, rounds=1, network_size=8, network_epochs=3)


@pytest.fixture(scope="module")
def chains():
    rng = np.random.default_rng(0)
    data = sequence_dataset(
        [[(start + step) % 40 for step in range(rng.integers(3, 9))] for start in rng.integers(0, 40, 300)]
    )
    return fit_recommender(data, data.users("train"), SETTINGS, ItemSettings())


def users(count):
    return [History(str(start), [str(start), str(start + 1)], [1.0] * 2, [0] * 2) for start in range(count)]


def items(found):
    return [[one.item_id for one in each.items] for each in found]


def test_an_index_that_finds_all_items_lists_what_is_listed_without_it(chains):
    exact, indexed = chains.recommend(users(9), k=5), chains.with_index(40).recommend(users(9), k=5)
    assert items(indexed) == items(exact)
    for one, other in zip(exact, indexed, strict=True):
        assert [a.score for a in one.items] == pytest.approx([b.score for b in other.items], abs=1e-5)
        assert [a.share for a in one.items] == pytest.approx([b.share for b in other.items], abs=1e-5)


def test_an_index_that_finds_few_items_finds_the_best(chains):
    exact, indexed = chains.recommend(users(9), k=1), chains.with_index(8).recommend(users(9), k=1)
    assert items(indexed) == items(exact)


def test_a_list_that_the_index_cannot_fill_is_made_of_all_items(chains):
    assert items(chains.with_index(2).recommend(users(3), k=30)) == items(chains.recommend(users(3), k=30))


def test_filters_and_diversity_hold_with_an_index():
    films = small_dataset()
    recommender = fit_recommender(films, films.users("train"), SETTINGS, ItemSettings())
    history = films.histories([films.user_ids[films.users("test")[0]]])
    for asked in ({"categories": ["War"]}, {"diversity": 0.5}, {"seen": True}):
        assert items(recommender.with_index(80).recommend(history, k=6, **asked)) == items(
            recommender.recommend(history, k=6, **asked)
        )


def test_an_index_without_faiss_says_what_to_install(chains, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("index"))):
        chains.with_index()
