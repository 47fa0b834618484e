"""Top-k and diverse selection."""

import numpy as np
import pytest

from palate.recommend.selection import best_items, diverse_items


@pytest.mark.parametrize("k", [1, 3, 50, 200])
def test_the_best_are_those_of_a_full_sort(k):
    scores = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert best_items(scores, k).tolist() == np.argsort(-scores)[:k].tolist()


def test_ties_go_by_the_catalogue_and_hidden_items_never_come():
    scores = np.array([1, -np.inf, 2, 1, 1], dtype=np.float32)
    assert best_items(scores, 2).tolist() == [2, 0]
    assert best_items(scores, 5).tolist() == [2, 0, 3, 4]


def test_diversity_leaves_out_what_is_like_a_chosen_item():
    scores = np.array([1.0, 0.9, 0.5, 0.0], dtype=np.float32)
    alike = np.eye(4, dtype=np.float32)
    alike[0, 1] = alike[1, 0] = 1.0

    def similarity(pool):
        return alike[pool][:, pool]

    assert diverse_items(scores, 2, 0.0, similarity).tolist() == [0, 1]
    assert diverse_items(scores, 2, 0.5, similarity).tolist() == [0, 2]
