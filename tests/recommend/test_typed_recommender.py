"""A recommender on event types: views, purchases and skips."""

from dataclasses import replace

import numpy as np
import pytest

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.data.event_types import EventTypes
from palate.recommend.fit import fit_recommender
from palate.recommend.held_out import hold_out
from palate.recommend.recommender import Recommender
from palate.recommend.state import newest_windows
from palate.schema import History, Interactions, Windows
from sequence_data import sequence_dataset

TYPES = EventTypes(weights={"skip": -1.0, "view": 1.0, "purchase": 5.0})
SKIP, VIEW, BUY = 0.0, 1.0, 5.0
ITEMS = 20


def typed(sequences):
    """Of lists of (item, value) per user."""
    data = sequence_dataset([[item for item, _ in one] for one in sequences], items=ITEMS)
    values = (SKIP, VIEW, BUY)
    index = [values.index(value) for one in sequences for _, value in one]
    info = data.info.model_copy(update={"rating_values": values, "event_types": TYPES, "repeats": True})
    events = replace(data.interactions, rating_index=np.array(index, dtype=np.uint8))
    return replace(data, info=info, interactions=events)


def fitted(data, **settings):
    given = RecommendSettings(texts=False, rounds=2, network_size=0, ordered=True).model_copy(update=settings)
    return fit_recommender(data, data.users("train"), given, ItemSettings(), seed=1)


@pytest.fixture(scope="module")
def shop():
    """Users who buy along a ring of 15 items, and between two of them view one at random and skip item 19."""
    rng = np.random.default_rng(0)
    sequences = []
    for start in rng.integers(0, 15, 300):
        one = []
        for step in range(rng.integers(3, 6)):
            one += [((start + step) % 15, BUY), (int(rng.integers(0, 15)), VIEW), (19, SKIP)]
        sequences.append(one)
    return typed(sequences)


@pytest.fixture(scope="module")
def recommender(shop):
    return fitted(shop)


def history(*events):
    return History(
        "me", [str(item) for item, _ in events], [value for _, value in events], list(range(len(events)))
    )


def scores(recommender, *events):
    return recommender.scores([history(*events)])[0]


def test_a_view_that_says_less_than_a_purchase_weighs_less(recommender):
    used = {name: part for name, part in recommender.scorer.weights.relations.items() if part.weight}
    _, view, bought = used["succession"].events.values
    assert view < bought
    bought_3 = scores(recommender, (3, BUY), (9, VIEW))
    assert int(np.argmax(np.where(np.isin(np.arange(ITEMS), [3, 9]), -np.inf, bought_3))) == 4


def test_what_is_only_ever_skipped_is_not_popular_and_relates_to_nothing(recommender):
    assert recommender.scorer.popularity[19] == 0
    assert recommender.scorer.relations["cooccurrence"].matrix[19].nnz == 0
    [nobody] = recommender.recommend([History("new", [], [], [])], k=ITEMS)
    assert "19" not in [one.item_id for one in nobody.items[:15]]


def test_a_skipped_item_is_below_all_others_unless_more_speaks_for_it(recommender):
    skipped = scores(recommender, (3, BUY), (4, SKIP))
    assert int(np.argmin(skipped)) == 4
    liked = scores(recommender, (3, BUY), (4, BUY), (4, SKIP))
    assert int(np.argmin(liked)) != 4


def test_skips_of_a_user_lower_what_is_alike(shop):
    relations = {"cooccurrence": {"values": (-1.0, 0.2, 1.0)}}
    found = fitted(shop)
    parts = {
        name: part.model_copy(update={"events": part.events.model_copy(update=relations[name])})
        for name, part in found.scorer.weights.relations.items()
        if name in relations
    }
    parts = {name: part.model_copy(update={"weight": 1.0}) for name, part in parts.items()}
    scorer = replace(found.scorer, weights=found.scorer.weights.model_copy(update={"relations": parts}))
    with_skip = replace(found, scorer=scorer).scores([history((3, BUY), (9, SKIP))])[0]
    without = replace(found, scorer=scorer).scores([history((3, BUY))])[0]
    assert with_skip[10] < without[10]


@pytest.mark.parametrize("ordered", [True, False])
def test_only_what_may_be_held_out_is(ordered):
    events = typed(
        [[(0, BUY), (1, BUY), (2, SKIP)], [(3, VIEW), (4, SKIP), (3, BUY), (5, VIEW)]]
    ).interactions
    allowed = np.array([False, True, False, False, False, True, False])
    found = hold_out(events, ordered, 10, np.random.default_rng(0), allowed)
    assert found.target.tolist() == [1, 3]
    histories = [
        row[:n].tolist() for row, n in zip(found.windows.item_index, found.windows.length, strict=True)
    ]
    assert histories == ([[0], [3, 4]] if ordered else [[0, 2], [3, 4, 5]])


def test_the_network_does_not_read_skips(recommender):
    read = [
        recommender.scorer.chosen(newest_windows([recommender.state(one)]))
        for one in (history((3, BUY), (19, SKIP)), history((3, BUY)))
    ]
    assert [one.item_index[0, : one.length[0]].tolist() for one in read] == [[3], [3]]


def test_it_is_the_same_when_it_is_read_back(recommender, tmp_path):
    recommender.save_pretrained(tmp_path / "model")
    again = Recommender.from_pretrained(tmp_path / "model")
    asked = history((3, BUY), (4, SKIP), (9, VIEW))
    assert np.array_equal(again.scores([asked]), recommender.scores([asked]))
    assert again.facts.unrated == TYPES


def test_windows_keep_what_is_chosen_in_its_order():
    windows = Windows(
        np.array([[1, 2, 3], [4, 5, 0]], np.int32),
        np.array([[1, 0, 2], [0, 0, 0]], np.uint8),
        np.array([[7, 8, 9], [7, 8, 0]]),
        np.array([3, 2]),
    )
    kept = windows.where(windows.rating_index > 0)
    assert (kept.item_index.tolist(), kept.length.tolist()) == ([[1, 3], [0, 0]], [2, 0])
    assert kept.timestamp.tolist() == [[7, 9], [0, 0]]


def test_interactions_keep_their_users():
    events = Interactions(
        np.array([0, 2, 3, 4]), *(np.arange(4, dtype=kind) for kind in (np.int32, np.uint8, np.int64))
    )
    kept = events.where(np.array([False, True, False, True]))
    assert (kept.offsets.tolist(), kept.item_index.tolist()) == ([0, 1, 1, 2], [1, 3])
