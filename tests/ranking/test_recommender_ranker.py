"""The recommender as a ranker."""

import numpy as np
import pytest

import palate
from palate.config.registry import rankers
from palate.data.tabular.settings import OwnData
from palate.errors import DataError, MismatchError, RecipeError
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
    ranker = kind.build(kind.settings(texts=False, rounds=1, history=2, network_size=0))
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


def walks(users=120, items=20):
    rng = np.random.default_rng(1)
    starts = rng.integers(0, items, users)
    return [[(start + step) % items for step in range(rng.integers(4, 8))] for start in starts]


SETTINGS = {"texts": False, "rounds": 1, "rating_iterations": 1, "network_size": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the data of walks, and two runs on it: of all interactions, and of those before the last two."""
    place = tmp_path_factory.mktemp("walks")
    lines = (f"{user} {' '.join(map(str, one))}\n" for user, one in enumerate(walks()))
    (place / "walks.txt").write_text("".join(lines))
    data = palate.prepare(place / "walks.txt", place / "data", own=OwnData(format="sequences"))
    for protocol in (None, "leave-last-out"):
        recipe = {"recommend": SETTINGS, "data": {"protocol": protocol}}
        palate.train(recipe, data, place / f"run-{protocol}")
    return place, data


def test_a_run_that_was_trained_by_the_protocol_is_ranked_as_the_recommender_that_ranking_trains(made):
    place, data = made
    fresh = "recommender:" + ",".join(f"{name}={value}" for name, value in SETTINGS.items())
    table = palate.rank([place / "run-leave-last-out", fresh], data)
    run, trained = table.rankers
    assert run.metrics == trained.metrics
    assert run.name == str(place / "run-leave-last-out")
    assert run.metrics["hr@10"].value > 0.5


def test_a_run_that_has_learned_from_targets_is_refused(made):
    place, data = made
    with pytest.raises(MismatchError) as refused:
        palate.rank(["popularity", place / "run-None"], data)
    assert str(refused.value).removeprefix(str(place)) == (
        "/run-None was trained on targets of leave-last-out: its recipe has data.protocol null; train it with --set "
        "data.protocol=leave-last-out into a new folder, or name the ranker recommender, which is trained here"
    )


def test_a_run_of_training_users_is_ranked_for_new_users(made):
    place, data = made
    assert palate.rank([place / "run-None"], data, protocol="new-users").users > 0
    with pytest.raises(
        MismatchError, match=r"was trained on targets of new-users: .* leave-last-out; train it"
    ):
        palate.rank([place / "run-leave-last-out"], data, protocol="new-users")


def test_a_run_on_other_data_is_refused(made):
    place, _ = made
    other = sequence_dataset(walks(users=90), items=20)
    with pytest.raises(
        MismatchError,
        match=r"was trained on walks0-walks \(sha256:.*\), but the data to evaluate on is made-up",
    ):
        palate.rank([place / "run-leave-last-out"], other)


def test_what_is_neither_a_ranker_nor_a_run_says_so(made):
    place, data = made
    with pytest.raises(DataError, match="not a run: expected a folder that 'palate train' wrote"):
        palate.rank([place / "absent"], data)


def test_only_a_recommender_is_trained_by_a_protocol(made):
    _, data = made
    with pytest.raises(RecipeError, match=r"data\.protocol is 'future', which applies to recommenders only"):
        palate.train({"data": {"protocol": "future"}}, data)


def test_a_run_without_other_cold_items_than_those_that_are_ranked_is_refused(made):
    place, data = made
    palate.train({"recommend": SETTINGS, "data": {"protocol": "cold-items"}}, data, place / "run-cold")
    assert palate.rank([place / "run-cold"], data, protocol="cold-items").cold_items == 2
    with pytest.raises(
        MismatchError, match=r"without the cold items of seed 0, but those of seed 4 are ranked"
    ):
        palate.rank([place / "run-cold"], data, protocol="cold-items", seed=4)
