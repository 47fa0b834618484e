"""Ranking protocols: training, tuning and test data, without leakage."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.event_types import EventTypes
from palate.data.protocols import make_split
from palate.errors import DataError
from sequence_data import sequence_dataset


def histories(cases):
    return [
        row[:length].tolist()
        for row, length in zip(cases.windows.item_index, cases.windows.length, strict=True)
    ]


def targets(cases):
    return [[item for item in row if item >= 0] for row in cases.targets.tolist()]


def training(split):
    events = split.training.interactions
    return [one.tolist() for one in np.split(events.item_index, events.offsets[1:-1])]


def test_leave_last_out_takes_the_last_and_the_one_before():
    data = sequence_dataset([[0, 1, 2, 3], [4, 5], [6, 7, 8]])
    split = make_split(data, "leave-last-out")
    assert training(split) == [[0, 1], [4, 5], [6]]
    assert (histories(split.dev), targets(split.dev)) == ([[0, 1], [6]], [[2], [7]])
    assert (histories(split.test), targets(split.test)) == ([[0, 1, 2], [6, 7]], [[3], [8]])
    assert split.test.user_index.tolist() == [0, 2]
    assert split.left_out == {"without_history_or_target": 1, "only_seen_items": 0}
    assert split.training.info.interactions == 5
    assert len(split.training.users("train")) == 3


def test_targets_that_were_seen_are_left_out_unless_kept():
    data = sequence_dataset([[0, 1, 2, 0], [0, 1, 2, 3]])
    assert targets(make_split(data, "leave-last-out").test) == [[3]]
    assert make_split(data, "leave-last-out").left_out["only_seen_items"] == 1
    assert targets(make_split(data, "leave-last-out", keep_seen=True).test) == [[0], [3]]


def test_the_future_is_the_newest_tenth_of_all_time():
    times = [[0, 1, 2, 3, 4, 16, 18, 19], [5, 6, 7, 8, 9, 17], [10, 11, 12, 13, 14, 15]]
    items = [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6], [5, 6, 7, 0, 1, 2]]
    split = make_split(sequence_dataset(items, times=times), "future")
    assert training(split) == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 6, 7, 0, 1, 2]]
    assert (histories(split.dev), targets(split.dev)) == ([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]], [[5], [6]])
    assert (histories(split.test), targets(split.test)) == ([[0, 1, 2, 3, 4, 5]], [[6, 7]])


def test_the_future_needs_times():
    with pytest.raises(DataError, match="has no times, which the protocol future splits by"):
        make_split(sequence_dataset([[0, 1, 2, 3]] * 4), "future")


def test_nothing_is_learned_from_new_users():
    data = sequence_dataset([[0, 1], [1, 2, 3], [2, 3, 4]], splits=["train", "dev", "test"])
    split = make_split(data, "new-users")
    assert training(split) == [[0, 1], [], []]
    assert (histories(split.dev), targets(split.dev)) == ([[1, 2]], [[3]])
    assert (histories(split.test), targets(split.test)) == ([[2, 3]], [[4]])


def test_nobody_to_rank_for_is_an_error():
    with pytest.raises(
        DataError, match="no user of made-up has a dev case under the protocol leave-last-out"
    ):
        make_split(sequence_dataset([[0, 1], [2]]), "leave-last-out")


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=3, max_size=8), st.data())
def test_no_target_is_in_what_a_ranker_sees(sequences, data):
    protocol = data.draw(st.sampled_from(["leave-last-out", "new-users"]))
    splits = ["train", "dev", "test", *["train"] * (len(sequences) - 3)]
    dataset = sequence_dataset(sequences, items=10, splits=splits)
    try:
        split = make_split(dataset, protocol)
    except DataError:
        return
    learned = training(split)
    for cases in (split.dev, split.test):
        for user, history, wanted in zip(cases.user_index, histories(cases), targets(cases), strict=True):
            own = sequences[user]
            assert own[: len(history)] == history
            assert own[len(history)] == wanted[0]
            assert wanted[0] not in history
            assert len(learned[user]) <= len(history)


def test_only_chosen_items_are_targets_and_skips_stay_in_histories():
    dataset = sequence_dataset([[0, 1, 2, 3, 4], [0, 1, 2], [0, 1]], items=6)
    types = EventTypes(weights={"skip": -1, "view": 1})
    chosen = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0], dtype=np.uint8)
    info = dataset.info.model_copy(update={"rating_values": (0.0, 1.0), "event_types": types})
    dataset = replace(dataset, info=info, interactions=replace(dataset.interactions, rating_index=chosen))
    split = make_split(dataset, "leave-last-out")
    assert split.test.user_index.tolist() == [0]
    assert split.test.targets.tolist() == [[3]]
    assert split.test.windows.item_index[0, :3].tolist() == [0, 1, 2]
    assert split.dev.targets.tolist() == [[1]]
    assert split.training.interactions.lengths.tolist() == [1, 3, 2]


def cold_data(users=40, items=30, seed=0):
    rng = np.random.default_rng(seed)
    return sequence_dataset([rng.permutation(items)[:12].tolist() for _ in range(users)], items=items)


def test_nothing_is_learned_of_cold_items_and_they_are_the_targets():
    data = cold_data()
    split = make_split(data, "cold-items", seed=3)
    known = set(split.training.interactions.item_index.tolist())
    dev = {item for one in targets(split.dev) for item in one}
    assert len(split.cold) == 3
    assert {item for one in targets(split.test) for item in one} <= set(split.cold.tolist())
    assert len(dev) <= 3
    assert not known & (dev | set(split.cold.tolist()))
    assert set(np.flatnonzero(split.training.new_items)) >= dev | set(split.cold.tolist())
    assert not known & set(np.flatnonzero(split.training.new_items))
    assert len(known) == 24
    for cases in (split.dev, split.test):
        for user, history, wanted in zip(cases.user_index, histories(cases), targets(cases), strict=True):
            own = data.interactions.item_index[12 * user : 12 * (user + 1)].tolist()
            assert history == [item for item in own[: own.index(wanted[0])] if item in known]
            assert len(wanted) == 1


def test_cold_items_are_drawn_by_the_seed():
    drawn = [make_split(cold_data(), "cold-items", seed=seed).cold.tolist() for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]
