import numpy as np
import pytest
from sklearn.linear_model import Ridge

from palate.errors import DataError
from palate.items.encoder import EncoderIdentity
from palate.items.probe import category_queries
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
    queries = category_queries(table, categories, ridge=0.1)
    assert queries.weights.shape == (5, 32)
    assert queries.weights.dtype == queries.bias.dtype == np.float32
    np.testing.assert_array_equal(queries.scores(table.vectors) > 0.5, categories)


def test_new_items_of_the_same_kind_are_recognised(separable):
    table, categories = separable
    seen = make_table(table.vectors[:200])
    queries = category_queries(seen, categories[:200], ridge=0.1)
    np.testing.assert_array_equal(queries.scores(table.vectors[200:]) > 0.5, categories[200:])


@pytest.mark.parametrize("ridge", [1e-2, 10.0])
def test_it_is_ridge_regression(separable, ridge):
    table, categories = separable
    expected = Ridge(alpha=ridge).fit(table.vectors.reshape(300, -1).astype(np.float64), categories)
    queries = category_queries(table, categories, ridge)
    np.testing.assert_allclose(queries.weights, expected.coef_, atol=1e-4)
    np.testing.assert_allclose(queries.bias, expected.intercept_, atol=1e-3)


def test_a_field_that_is_always_missing_gets_no_weight(separable):
    table, categories = separable
    vectors = table.vectors.copy()
    vectors[:, 1] = 0
    queries = category_queries(make_table(vectors), categories, ridge=0.1)
    np.testing.assert_allclose(queries.weights[:, 16:], 0, atol=1e-6)


def test_another_datasets_matrix_is_refused(separable):
    table, categories = separable
    with pytest.raises(DataError, match="299 items and the item table 300"):
        category_queries(table, categories[1:], ridge=0.1)
