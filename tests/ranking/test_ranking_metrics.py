"""Ranking metrics against scikit-learn's, and against all orders of ties."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from palate.ranking.metrics import (
    METRICS,
    coverage,
    novelty,
    rank_metrics,
    target_ranks,
    top_items,
)


def metrics(scores, targets):
    """Of one user with these scores and targets."""
    scores = np.array([scores], dtype=np.float64)
    wanted = np.array([targets])
    found = rank_metrics(target_ranks(scores, np.take_along_axis(scores, wanted, axis=1), wanted >= 0))
    return dict(zip(METRICS, found[0], strict=True))


def by_hand(order, targets):
    """Of one user by a list of all items, best first."""
    places = sorted(order.index(target) + 1 for target in targets)
    found = {"mrr": 1 / places[0]}
    for k in (5, 10, 20):
        inside = [place for place in places if place <= k]
        ideal = sum(1 / np.log2(place + 1) for place in range(1, min(len(targets), k) + 1))
        found[f"hr@{k}"] = float(bool(inside))
        found[f"recall@{k}"] = len(inside) / len(targets)
        found[f"ndcg@{k}"] = sum(1 / np.log2(place + 1) for place in inside) / ideal
    return found


def test_a_target_at_rank_seven():
    found = metrics([-place for place in range(30)], [6])
    assert found["hr@5"] == found["ndcg@5"] == 0
    assert found["hr@10"] == found["recall@20"] == 1
    assert found["ndcg@10"] == pytest.approx(1 / np.log2(8))
    assert found["mrr"] == pytest.approx(1 / 7)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_ties_count_by_the_mean_over_all_orders(scores, data):
    items = range(len(scores))
    targets = data.draw(st.lists(st.sampled_from(items), min_size=1, max_size=len(scores), unique=True))
    orders = [
        order for order in permutations(items) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    expected = [by_hand(order, targets) for order in orders]
    for name, value in metrics(scores, targets).items():
        assert value == pytest.approx(np.mean([one[name] for one in expected])), name


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_ndcg_equals_scikit_learns(seed, number):
    rng = np.random.default_rng(seed)
    scores, targets = rng.permutation(40).astype(float), rng.choice(40, number, replace=False)
    truth = np.isin(np.arange(40), targets)[None]
    found = metrics(scores, targets)
    for k in (5, 10, 20):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(truth, scores[None], k=k))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 5))
def test_all_metrics_equal_those_of_trec_eval(seed, items, most):
    measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(items) for _ in range(6)]).astype(float)
    targets = np.full((6, most), -1)
    for row in targets:
        number = rng.integers(1, min(most, items) + 1)
        row[:number] = rng.choice(items, number, replace=False)
    names = {"hr": "Success", "recall": "R", "ndcg": "nDCG"}
    theirs = {
        measures.parse_measure(f"{names[name]}@{k}"): f"{name}@{k}" for name in names for k in (5, 10, 20)
    } | {measures.RR: "mrr"}
    relevant = [
        measures.Qrel(str(user), str(item), 1)
        for user, row in enumerate(targets)
        for item in row
        if item >= 0
    ]
    ranked = [
        measures.ScoredDoc(str(user), str(item), score)
        for user, row in enumerate(scores)
        for item, score in enumerate(row)
    ]
    wanted = targets >= 0
    found = rank_metrics(
        target_ranks(scores, np.take_along_axis(scores, np.maximum(targets, 0), axis=1), wanted)
    )
    for one in measures.iter_calc(list(theirs), relevant, ranked):
        own = found[int(one.query_id), METRICS.index(theirs[one.measure])]
        assert own == pytest.approx(one.value, abs=1e-6), one


def test_equal_scores_find_what_a_random_order_finds():
    found = metrics(np.zeros(100), [3])
    assert found["hr@10"] == pytest.approx(0.1)
    assert found["recall@5"] == pytest.approx(0.05)


def test_the_best_items_leave_out_what_is_not_ranked():
    scores = np.array([[1.0, -np.inf, 3.0, 2.0], [-np.inf, -np.inf, -np.inf, 0.0]])
    assert top_items(scores, 3).tolist() == [[2, 3, 0], [3, -1, -1]]


def test_coverage_and_novelty_are_of_the_lists():
    lists = np.array([[0, 1], [1, -1]])
    assert coverage(lists, 4) == 0.5
    assert novelty(lists, np.array([8, 2, 0, 0]), 8) == pytest.approx((0 + 2 + 2) / 3)
