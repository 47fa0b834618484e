"""Protocols of rating prediction: training data, shown histories and held-out ratings."""

import numpy as np
import pytest

from palate.errors import DataError
from palate.ranking.ratings.protocols import make_rating_split
from sequence_data import sequence_dataset
from small_dataset import small_dataset

FILMS = small_dataset()


def timed(sequences, times):
    data = sequence_dataset(sequences, times=times)
    info = data.info.model_copy(update={"feedback": "ratings"})
    return type(data)(info, data.interactions, data.user_ids, data.items, data.split_of_user)


def test_new_users_are_learned_from_by_nobody_and_dev_users_only_at_last():
    split = make_rating_split(FILMS, "new-users", (5,))
    owner = FILMS.interactions.owner
    kept = {name: np.isin(owner, FILMS.users(name)).sum() for name in ("train", "dev", "test")}
    assert len(split.training.interactions) == kept["train"]
    assert len(split.final.interactions) == kept["train"] + kept["dev"]
    assert set(split.dev["5 visible"].user_index) == set(FILMS.users("dev"))
    assert set(split.test["5 visible"].user_index) == set(FILMS.users("test"))


def test_half_of_a_short_history_is_held_out_and_never_shown():
    split = make_rating_split(FILMS, "new-users", (5, 1000))
    few, all_others = split.test["5 visible"], split.test["1,000 visible"]
    for user, shown, every, held_out in zip(
        few.user_index, few.shown, all_others.shown, few.held_out, strict=True
    ):
        length = FILMS.interactions.lengths[user]
        assert len(held_out) == min(length // 2, 50)
        assert len(shown) == 5
        assert set(shown) < set(every)
        rows = np.sort(np.concatenate([every, held_out]))
        assert rows.tolist() == list(range(*FILMS.interactions.offsets[user : user + 2]))


def test_held_out_ratings_are_the_same_for_each_number_and_follow_the_seed():
    def held_out(seed):
        split = make_rating_split(FILMS, "new-users", (5, 10), seed=seed)
        return [np.concatenate(one.held_out).tolist() for one in split.test.values()]

    assert held_out(0)[0] == held_out(0)[1] != held_out(1)[0]


def test_the_newest_ratings_are_shown_if_asked_for():
    split = make_rating_split(FILMS, "new-users", (5, 1000), "recent")
    for shown, every in zip(*(one.shown for one in split.test.values()), strict=True):
        assert shown.tolist() == every[-5:].tolist()


def test_the_future_is_predicted_from_what_was_before_it_and_from_what_was_before_each_rating():
    data = timed([[0, 1, 2, 3, 4], [1, 2]], [[1, 10, 20, 20, 30], [5, 31]])
    split = make_rating_split(data, "future", periods=(10, 20))
    assert split.training.interactions.timestamp.tolist() == [1, 5]
    assert split.final.interactions.timestamp.tolist() == [1, 10, 5]
    still, each = split.test.values()
    assert list(zip(map(list, still.shown), map(list, still.held_out), strict=True)) == [
        ([0, 1], [2, 3, 4]),
        ([5], [6]),
    ]
    assert list(zip(map(list, each.shown), map(list, each.held_out), strict=True)) == [
        ([0, 1], [2, 3]),  # what comes at one time is predicted together
        ([0, 1, 2, 3], [4]),
        ([5], [6]),
    ]


def test_cold_items_are_learned_of_by_nobody_and_predicted_from_the_others():
    split = make_rating_split(FILMS, "cold-items", seed=3)
    items = FILMS.interactions.item_index

    def cold(cases):
        return {int(item) for rows in cases.held_out for item in items[rows]}

    (dev,), (test,) = split.dev.values(), split.test.values()
    assert len(cold(dev)) == len(cold(test)) == 8
    assert not cold(dev) & cold(test)
    assert set(split.training.interactions.item_index) == set(items) - cold(dev) - cold(test)
    assert set(split.final.interactions.item_index) == set(items) - cold(test)
    assert set(np.flatnonzero(split.training.new_items)) == cold(dev) | cold(test)
    assert set(np.flatnonzero(split.final.new_items)) == cold(test)
    shown = {int(item) for rows in test.shown for item in items[rows]}
    assert not shown & (cold(test) | cold(dev))
    assert sum(map(len, test.held_out)) == np.isin(items, list(cold(test))).sum()


def test_batches_hold_the_histories_and_ratings_of_the_rows():
    split = make_rating_split(FILMS, "new-users", (7,))
    (cases,) = split.test.values()
    events, seen = FILMS.interactions, {}
    for batch in cases.batches():
        for row, user in enumerate(batch.user_index):
            wanted = batch.wanted[row]
            history = batch.windows.item_index[row, : batch.windows.length[row]]
            seen[int(user)] = (history.tolist(), batch.item_index[row][wanted].tolist())
    for user, shown, held_out in zip(cases.user_index, cases.shown, cases.held_out, strict=True):
        assert seen[int(user)] == (events.item_index[shown].tolist(), events.item_index[held_out].tolist())


def test_what_the_data_lacks_is_said():
    views = sequence_dataset([[0, 1], [1, 2]])
    with pytest.raises(DataError, match="made-up has no ratings to predict; rank its items"):
        make_rating_split(views, "new-users")
    untimed = type(FILMS)(
        FILMS.info.model_copy(update={"has_times": False}), FILMS.interactions, FILMS.user_ids, FILMS.items,
        FILMS.split_of_user,
    )  # fmt: skip
    with pytest.raises(DataError, match="has no times, which the protocol future splits by"):
        make_rating_split(untimed, "future")
    with pytest.raises(DataError, match="no test ratings to predict by the protocol future"):
        make_rating_split(timed([[0, 1]], [[1, 2]]), "future", periods=(1, 10))
    with pytest.raises(
        DataError, match="unknown protocol 'past'; expected one of new-users, future, cold-items"
    ):
        make_rating_split(FILMS, "past")
