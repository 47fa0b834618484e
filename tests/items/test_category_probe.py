import numpy as np
import pytest

from palate.errors import DataError
from palate.items.encoder import EncoderIdentity
from palate.items.probe import UNKNOWN, category_probe
from palate.items.table import ItemTable


def make_table(vectors: np.ndarray) -> ItemTable:
    items, fields, size = vectors.shape
    return ItemTable(
        [str(index) for index in range(items)],
        vectors.astype(np.float32),
        np.ones((items, fields), np.bool_),
        np.array([1.0], np.float32),
        np.zeros((1, size), np.float32),
        EncoderIdentity("none", None, "none", 8),
    )


@pytest.fixture
def separable():
    """Items whose vectors are the sum of their categories' directions, an offset and a little noise."""
    random = np.random.default_rng(0)
    categories = random.random((300, 5)) < 0.3
    directions = random.standard_normal((5, 2 * 16))
    vectors = 3 + categories @ directions + 0.05 * random.standard_normal((300, 2 * 16))
    return make_table(vectors.reshape(300, 2, 16)), categories


def test_separable_categories_are_recovered(separable):
    table, categories = separable
    probe = category_probe(table, categories)
    assert probe.weights.shape == (5, 32)
    assert probe.weights.dtype == probe.bias.dtype == np.float32
    np.testing.assert_array_equal(probe.scores(table.vectors) > 0, categories)


def test_new_items_of_the_same_kind_are_recognised(separable):
    table, categories = separable
    seen = make_table(table.vectors[:200])
    probe = category_probe(seen, categories[:200])
    np.testing.assert_array_equal(probe.scores(table.vectors[200:]) > 0, categories[200:])


def test_it_is_sure_of_the_items_that_it_was_fitted_on(separable):
    table, categories = separable
    chance = 1 / (1 + np.exp(-category_probe(table, categories).scores(table.vectors)))
    assert np.abs(chance - categories).mean() < 0.01


def test_a_category_of_all_items_or_of_none_is_taken_for_granted(separable):
    table, categories = separable
    categories = categories.copy()
    categories[:, 0], categories[:, 1] = True, False
    probe = category_probe(table, categories)
    assert not probe.weights[:2].any()
    assert probe.bias[:2].tolist() == [UNKNOWN, -UNKNOWN]


def test_a_field_that_is_always_missing_gets_no_weight(separable):
    table, categories = separable
    vectors = table.vectors.copy()
    vectors[:, 1] = 0
    probe = category_probe(make_table(vectors), categories)
    np.testing.assert_allclose(probe.weights[:, 16:], 0, atol=1e-6)


def test_another_datasets_matrix_is_refused(separable):
    table, categories = separable
    with pytest.raises(DataError, match="299 items and the item table 300"):
        category_probe(table, categories[1:])
