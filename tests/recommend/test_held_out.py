"""Held-out training interactions."""

import numpy as np

from palate.recommend.held_out import ENOUGH, hold_out, user_folds
from palate.recommend.order import common_order
from palate.recommend.tuning import best_penalty
from palate.schema import Interactions


def interactions(histories):
    flat = np.array([item for one in histories for item in one], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in histories])]).astype(np.int64)
    return Interactions(offsets, flat, np.zeros(len(flat), np.uint8), np.zeros(len(flat), np.int64))


def test_many_users_give_one_fold_and_few_are_all_held_out_once():
    rng = np.random.default_rng(0)
    (one,) = user_folds(np.full(10 * ENOUGH, 3), 0.1, rng)
    assert len(one) == ENOUGH
    few = user_folds(np.array([3, 1, 2, 5, 2, 2, 9]), 0.1, rng)
    assert sorted(user for fold in few for user in fold) == [0, 2, 3, 4, 5, 6]


def test_the_last_interaction_is_held_out_and_the_newest_before_it_are_kept():
    found = hold_out(interactions([[4, 5, 6], [1, 2]]), True, 1, np.random.default_rng(0))
    assert found.target.tolist() == [6, 2]
    assert found.windows.item_index.tolist() == [[5], [1]]


def test_without_order_any_one_is_held_out_and_all_others_are_the_history():
    histories = [[0, 1, 2, 3]] * 200
    found = hold_out(interactions(histories), False, 10, np.random.default_rng(0))
    assert set(found.target.tolist()) == {0, 1, 2, 3}
    for history, target in zip(found.windows.item_index, found.target, strict=True):
        assert sorted([*history.tolist(), target]) == [0, 1, 2, 3]


def test_a_common_order_of_the_items_is_found_in_sorted_histories_alone():
    rng = np.random.default_rng(0)
    drawn = [rng.choice(50, 8, replace=False).tolist() for _ in range(300)]
    assert abs(common_order(interactions(drawn), 50, rng)) < 0.2
    assert common_order(interactions([sorted(one) for one in drawn]), 50, rng) > 0.8
    assert common_order(interactions([[1], []]), 50, rng) == 0


def test_a_ridge_penalty_is_chosen_by_the_held_out_ranks():
    rng = np.random.default_rng(0)
    pairs = [[2 * (pair := int(rng.integers(20))), 2 * pair + 1] for _ in range(400)]
    learned, held = interactions(pairs[:300]), hold_out(interactions(pairs[300:]), True, 10, rng)
    assert best_penalty([(learned, held)], 40) == 100.0  # each finds the partner: the first of equals
