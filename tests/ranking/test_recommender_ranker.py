"""The recommender as a ranker."""

import numpy as np

from palate.config.registry import rankers
from palate.ranking.recommender import newest
from palate.schema import Windows
from sequence_data import sequence_dataset


def test_it_ranks_what_comes_next_from_the_newest_interactions():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 20, 250)
    dataset = sequence_dataset(
        [[(start + step) % 20 for step in range(rng.integers(3, 8))] for start in starts]
    )
    kind = rankers.find("recommender")
    ranker = kind.build(kind.settings(texts=False, rounds=1, history=2))
    ranker.fit(dataset, lambda ranker: 0.0)
    items = np.array([[9, 0, 1, 2], [5, 6, 0, 0]], dtype=np.int32)
    zeros = np.zeros((2, 4), dtype=np.int64)
    windows = Windows(items, zeros.astype(np.uint8), zeros, np.array([4, 2]))
    scores = ranker.scores(windows)
    scores[0, [9, 0, 1, 2]] = scores[1, [5, 6]] = -np.inf
    assert scores.argmax(axis=1).tolist() == [3, 7]
    candidates = np.array([[3, 15], [15, 7]], dtype=np.int32)
    assert ranker.scores(windows, candidates).argmax(axis=1).tolist() == [0, 1]


def test_the_newest_interactions_of_each_window_are_kept():
    items = np.array([[1, 2, 3, 4], [5, 6, 0, 0]], dtype=np.int32)
    zeros = np.zeros((2, 4), dtype=np.int64)
    kept = newest(Windows(items, zeros.astype(np.uint8), zeros, np.array([4, 2])), 3)
    assert kept.length.tolist() == [3, 2]
    assert kept.item_index[0].tolist() == [2, 3, 4]
    assert kept.item_index[1, :2].tolist() == [5, 6]
