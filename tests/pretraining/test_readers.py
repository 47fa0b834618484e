"""Encoded users of random populations: the network's estimates, and the truth."""

import numpy as np
import pytest
import torch

from palate.config.recipe import UniversalSettings
from palate.encoders.universal import UniversalNetwork
from palate.pretraining.readers import NetworkReaders


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return UniversalNetwork(UniversalSettings(d_model=16, num_layers=1, num_heads=2))


@pytest.fixture(scope="module")
def readers(network):
    return NetworkReaders(network, 2, 0)


def test_what_is_read_and_what_is_true_stand_beside_each_other(readers):
    read = readers.draw(np.random.default_rng(0), 12)
    users, labels, width = read.hidden.shape
    assert (users, width) == (12, readers.width) == (12, 16)
    assert read.logits.shape == (12, labels, 2)
    assert read.scores.shape == read.known.shape == (12, labels)
    lowest, highest = read.rating_values[[0, -1]]
    assert (read.scores[read.known] >= lowest).all()
    assert (read.scores[read.known] <= highest).all()
    assert lowest < read.like_above < highest
    assert read.rated.shape == (12, labels)
    assert -0.5 < read.rated.min() < read.rated.max() < 1.5  # linear estimates may lie beyond the scale
    assert all(listed and max(listed) < labels for listed in read.item_categories)


def test_liked_categories_have_higher_scores_where_the_network_says_so(readers):
    """An untrained network passes on its estimates, which know more than nothing."""
    read = [readers.draw(np.random.default_rng(seed), 100) for seed in range(4)]
    above, below = ([], [])
    for one in read:
        score = one.scores[one.known] - one.like_above
        surer = one.logits[..., 0].numpy()[one.known]
        above += [*score[surer > np.median(surer)]]
        below += [*score[surer <= np.median(surer)]]
    assert np.mean(above) > np.mean(below)


def test_a_seed_gives_the_same_users(network, readers):
    again = NetworkReaders(network, 2, 0).draw(np.random.default_rng(3), 5)
    first = readers.draw(np.random.default_rng(3), 5)
    assert torch.equal(again.hidden, first.hidden)
    assert np.array_equal(again.scores, first.scores)
    assert again.item_categories == first.item_categories
