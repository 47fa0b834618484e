"""Item content vectors, and new items in a recommender."""

import numpy as np
import polars as pl
import pytest

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.errors import DataError
from palate.recommend.content import fit_content
from palate.recommend.fit import fit_recommender
from palate.recommend.recommender import Recommender
from palate.recommend.relations import PairRelation
from palate.schema import History, Item
from small_dataset import small_dataset

SETTINGS = RecommendSettings(texts=False, rounds=1, rating_rank=2, rating_iterations=2, network_size=8)


@pytest.fixture(scope="module")
def films():
    return small_dataset()


@pytest.fixture(scope="module")
def recommender(films):
    settings = SETTINGS.model_copy(update={"network_epochs": 1})
    return fit_recommender(films, films.users("train"), settings, ItemSettings(), seed=1)


def with_categories(films, names_of_items):
    rows = films.items.head(len(names_of_items)).with_columns(pl.Series("categories", names_of_items))
    info = films.info.model_copy(update={"categories": ("A", "B", "C")})
    return type(films)(info, films.interactions, films.user_ids, rows, films.split_of_user)


def test_a_rare_category_relates_items_more_than_a_common_one(films):
    data = with_categories(films, [["A", "C"], ["A", "B"], ["A", "C"], ["B"]])
    _, relations = fit_content(data, SETTINGS, ItemSettings())
    alike = relations["categories"].among(np.arange(4))
    assert alike[0, 2] == pytest.approx(1)
    assert 0 < alike[0, 1] < alike[0, 2]


def test_a_new_item_has_the_vector_of_a_known_one_with_its_categories(films):
    data = with_categories(films, [["A", "C"], ["A", "B"], ["A", "C"], ["B"]])
    content, relations = fit_content(data, SETTINGS, ItemSettings())
    new = content.relations([Item("new", "New", ("B", "unheard of")), Item("none", "None")])
    assert new["categories"].vectors.toarray()[0] == pytest.approx(
        relations["categories"].vectors.toarray()[3]
    )
    assert not new["categories"].vectors.toarray()[1].any()
    known = content.dense(relations, 4)
    assert content.dense(new, 2)[0] == pytest.approx(known[3])


def test_many_categories_are_reduced_to_principal_components_that_keep_who_is_alike(films):
    data = with_categories(films, [["A", "C"], ["A", "B"], ["A", "C"], ["B"]])
    content, relations = fit_content(data, SETTINGS.model_copy(update={"text_size": 2}), ItemSettings())
    dense = content.dense(relations, 4)
    assert dense.shape == (4, 2)
    assert dense[0] == pytest.approx(dense[2])


def test_a_new_item_is_recommended_to_who_likes_its_categories(recommender, films):
    history = films.histories([films.user_ids[films.users("test")[0]]])[0]
    liked = films.items["categories"][films.item_ids.index(history.item_ids[-1])]
    twin, other = Item("twin", "Twin", tuple(liked)), Item("other", "Other")
    grown = recommender.with_items([twin, other])
    (scores,) = grown.scores([history])
    assert scores[-2] > scores[-1]
    (before,) = recommender.scores([history])
    assert scores[:-2] == pytest.approx(before)
    assert len(recommender.items) == 80
    found = grown.recommend([history], k=82)[0].items
    assert {"twin", "other"} <= {one.item_id for one in found}
    with pytest.raises(DataError, match="item 'i1' is already known"):
        recommender.with_items([Item("i1", "Again")])


def test_a_new_item_may_be_part_of_a_history(recommender):
    grown = recommender.with_items([Item("new", "New", ("War",))])
    (found,) = grown.recommend([History("a", ["new", "i2"], [4.0, 5.0], [0, 1])], k=3)
    assert found.personal
    assert "new" not in {one.item_id for one in found.items}
    (rated,) = grown.rate([History("a", ["i2"], [5.0], [0])], ["new"])
    assert 0.5 <= rated.items[0].rating <= 5


def test_a_saved_recommender_takes_new_items_too(recommender, films, tmp_path):
    recommender.save_pretrained(tmp_path / "model")
    new = [Item("new", "New", ("War", "Drama"))]
    history = films.histories([films.user_ids[films.users("test")[0]]])[0]
    again = Recommender.from_pretrained(tmp_path / "model").with_items(new)
    assert (again.scores([history]) == recommender.with_items(new).scores([history])).all()


def test_padding_adds_items_that_nothing_is_related_to():
    square = np.arange(4, dtype=np.float32).reshape(2, 2)
    assert PairRelation(square).padded(1).matrix.tolist() == [[0, 1, 0], [2, 3, 0], [0, 0, 0]]
