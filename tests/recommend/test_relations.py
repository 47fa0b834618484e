"""Item relations against manual calculations."""

import numpy as np
import pytest
from scipy import sparse

from palate.recommend.relations import (
    cooccurrence,
    keep_largest,
    regression,
    succession,
)
from palate.schema import Interactions


def interactions(*histories):
    flat = np.array([item for one in histories for item in one], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in histories])]).astype(np.int64)
    zeros = np.zeros(len(flat), dtype=np.int64)
    return Interactions(offsets, flat, zeros.astype(np.uint8), zeros)


def test_items_with_the_same_users_are_related_by_their_damped_cosine():
    found = cooccurrence(interactions([0, 1], [0, 1], [0, 2]), 3, 5.0, 10).matrix.toarray()
    assert found[0, 1] == found[1, 0] == pytest.approx(2 / (np.sqrt(3 * 2) + 5))
    assert found[1, 2] == 0
    assert np.diag(found).tolist() == [0, 0, 0]


def test_an_item_is_followed_by_the_next_ones_each_half_as_much_as_the_one_before():
    found = succession(interactions([0, 1, 2], [2, 0]), 3, 0.0, 10).matrix.toarray()
    assert found[0, 1] == pytest.approx(1 / np.sqrt(2 * 1))
    assert found[0, 2] == pytest.approx(0.5 / np.sqrt(2 * 2))
    assert found[2, 0] == pytest.approx(1 / np.sqrt(2 * 2))
    assert found[1, 0] == 0


def test_the_order_of_interactions_is_left_as_it_is():
    events = interactions([3, 1, 2, 0], [2, 1])
    cooccurrence(events, 4, 5.0, 10)
    regression(events, 4, 1.0)
    assert events.item_index.tolist() == [3, 1, 2, 0, 2, 1]


def test_the_ridge_regression_solves_its_equations_without_the_item_itself():
    rng = np.random.default_rng(0)
    histories = [rng.choice(5, 3, replace=False).tolist() for _ in range(40)]
    found = regression(interactions(*histories), 5, 2.0).matrix
    users = np.zeros((40, 5))
    for row, history in enumerate(histories):
        users[row, history] = 1
    for item in range(5):
        others = [other for other in range(5) if other != item]
        gram = users[:, others].T @ users[:, others] + 2.0 * np.eye(4)
        expected = np.linalg.solve(gram, users[:, others].T @ users[:, item])
        assert found[others, item] == pytest.approx(expected, abs=1e-5)


def test_the_largest_entries_of_each_row_are_kept():
    matrix = sparse.csr_matrix(np.array([[0.0, 3, -5, 1], [2, 0, 0, 1], [0, 0, 0, 0]], dtype=np.float32))
    assert keep_largest(matrix, 2).toarray().tolist() == [[0, 3, -5, 0], [2, 0, 0, 1], [0, 0, 0, 0]]
