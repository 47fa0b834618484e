"""The item network: training, and equality of inference with training."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.config.recipe import RecommendSettings
from palate.recommend import network_training
from palate.recommend.network import ItemNetwork, pooled_events
from palate.recommend.network_training import NetworkData, all_windows, train_network, windows_before
from palate.schema import Interactions

ITEMS = 20
SETTINGS = RecommendSettings(network_size=16, network_dropout=0.1, network_learning_rate=0.02)
SAME = np.zeros(1, dtype=np.float32)


def interactions(histories):
    flat = np.array([item for one in histories for item in one], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in histories])]).astype(np.int64)
    return Interactions(offsets, flat, np.zeros(len(flat), np.uint8), np.arange(len(flat)))


def walks(users, items=ITEMS, seed=0):
    """Histories along a ring of items, each next item following the one before."""
    rng = np.random.default_rng(seed)
    return [
        [(start + step) % items for step in range(rng.integers(3, 8))]
        for start in rng.integers(0, items, users)
    ]


def data(histories, content=None, ordered=True, items=ITEMS):
    """Without relations: the item vectors start as if at random."""
    unrelated = sparse.csr_matrix(np.diag(np.linspace(1, 1.01, items)).astype(np.float32))
    content = np.zeros((items, 0), np.float32) if content is None else content
    return NetworkData(interactions(histories), unrelated, content, SAME, ordered, False)


def test_it_learns_what_follows_what():
    network, epochs = train_network(data(walks(200)), SETTINGS, 0, epochs=8)
    asked = all_windows(interactions([[start, (start + 1) % ITEMS] for start in range(ITEMS)]))
    assert network.logits(asked, SAME).argmax(axis=1).tolist() == [
        (start + 2) % ITEMS for start in range(ITEMS)
    ]
    assert epochs == 8


def test_a_softmax_over_sampled_items_learns_the_same(monkeypatch):
    monkeypatch.setattr(network_training, "SAMPLED_ABOVE", ITEMS - 1)
    monkeypatch.setattr(network_training, "NEGATIVES", 6)
    network, _ = train_network(data(walks(200)), SETTINGS, 0, epochs=6)
    asked = all_windows(interactions([[start, (start + 1) % ITEMS] for start in range(ITEMS)]))
    assert network.logits(asked, SAME).argmax(axis=1).tolist() == [
        (start + 2) % ITEMS for start in range(ITEMS)
    ]


def test_sampled_items_are_weighed_by_the_chance_that_they_are_drawn(monkeypatch):
    """The mean over draws of the sampled sum of exponentials is the whole sum."""
    monkeypatch.setattr(network_training, "NEGATIVES", 6)
    histories = walks(50)
    training = network_training._Training(data(histories), SETTINGS, np.random.default_rng(0))
    events = training.data.events
    values = np.exp(np.random.default_rng(1).normal(size=ITEMS))
    sums = []
    for _ in range(4000):
        row = training.rng.integers(0, len(events), 8)
        windows = all_windows(events.of_users(np.zeros(8, dtype=np.int64)))
        batch = network_training._Batch(windows, np.arange(8), events.item_index[row])
        columns, chance = training._sampled(batch)
        sums.append((values[columns] / chance).sum())
    assert np.mean(sums) == pytest.approx(values.sum(), rel=0.03)


def test_without_order_it_learns_what_goes_together():
    rng = np.random.default_rng(0)
    groups = [rng.permutation(5)[:4] + 5 * rng.integers(4) for _ in range(300)]
    network, _ = train_network(data(groups, ordered=False), SETTINGS, 0, epochs=6)
    asked = all_windows(interactions([[5 * group, 5 * group + 1] for group in range(4)]))
    logits = network.logits(asked, SAME)
    for group, row in enumerate(logits):
        others = [item for item in np.argsort(-row) if item not in (5 * group, 5 * group + 1)]
        assert {item // 5 for item in others[:3]} == {group}


def test_an_item_that_nobody_chose_is_known_by_its_content():
    rng = np.random.default_rng(0)
    group = np.arange(ITEMS) % 2
    content = np.eye(2, dtype=np.float32)[group] + rng.normal(0, 0.1, (ITEMS, 2)).astype(np.float32)
    trained = [np.flatnonzero((group == one) & (np.arange(ITEMS) < 18)) for one in (0, 1)]
    histories = [rng.permutation(trained[user % 2])[:6].tolist() for user in range(300)]
    network, _ = train_network(data(histories, content), SETTINGS, 0, epochs=10)
    logits = network.logits(all_windows(interactions([[0, 2, 4], [1, 3, 5]])), SAME)
    assert logits[0, 18] > logits[0, 19]
    assert logits[1, 19] > logits[1, 18]


def test_training_stops_when_it_gets_no_better_and_returns_the_best():
    found = []

    def validate(network):
        found.append(network)
        return [0.0, 1.0, 3.0, 2.0, 2.5, 9.0][len(found) - 1]

    network, epochs = train_network(data(walks(30)), SETTINGS, 0, validate)
    assert (epochs, len(found)) == (2, 5)
    assert network is found[2]


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_one_alone():
    torch.manual_seed(5)
    first, _ = train_network(data(walks(30)), SETTINGS, 3, epochs=2)
    after = torch.rand(1)
    second, _ = train_network(data(walks(30)), SETTINGS, 3, epochs=2)
    torch.manual_seed(5)
    assert torch.rand(1) == after
    assert all((one == second.arrays()[name]).all() for name, one in first.arrays().items())
    again = ItemNetwork.of_arrays(first.poolings, first.arrays())
    windows = all_windows(interactions([[1, 2], []]))
    assert (again.logits(windows, SAME) == second.logits(windows, SAME)).all()


def test_it_answers_as_it_was_trained():
    training = network_training._Training(data(walks(30)), SETTINGS, np.random.default_rng(0))
    torch.nn.init.normal_(training.net.output)  # zero at the start
    windows = all_windows(interactions([[3, 4, 5], [1]]))
    training.net.eval()
    with torch.no_grad():
        events = pooled_events(windows, training.data.poolings, SAME, ITEMS)
        vectors = training.net.vectors()
        expected = training.net(events, vectors, 2) @ vectors.T + training.net.bias()
    frozen = training.net.frozen(training.data.poolings)
    assert frozen.logits(windows, SAME) == pytest.approx(expected.numpy(), abs=1e-5)


def test_windows_hold_the_newest_interactions_before_a_row():
    found = windows_before(interactions([[1, 2, 3], [4, 5]]), np.array([2, 4, 0]), 1)
    assert found.item_index.tolist() == [[2], [4], [0]]
    assert found.length.tolist() == [1, 1, 0]
