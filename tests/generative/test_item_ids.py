"""Item ids are derived from training interactions alone, and are prefix-free."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.config.generative import P5Settings
from palate.data.protocols import make_split
from palate.errors import DataError
from palate.generative.clusters import recursive_clusters
from palate.generative.ids import make_item_ids
from sequence_data import sequence_dataset

CLEAN = ("sequential", "random", "collaborative")
histories = st.lists(
    st.lists(st.integers(0, 11), min_size=3, max_size=6, unique=True), min_size=2, max_size=6
)


def ids(data, kind, seed=0):
    training = make_split(data, "leave-last-out").training
    return make_item_ids(training, P5Settings(ids=kind, cluster_size=3, clusters=2), seed)


@pytest.mark.parametrize("kind", CLEAN)
@settings(max_examples=15, deadline=None)
@given(sequences=histories, last=st.permutations(range(12)))
def test_what_is_held_out_changes_no_id(kind, sequences, last):
    data = sequence_dataset(sequences, items=12)
    others = [[*one[:-2], *[item for item in last if item not in one[:-2]][:2]] for one in sequences]
    assert ids(data, kind) == ids(sequence_dataset(others, items=12), kind)


def test_sequential_ids_number_items_by_first_appearance():
    data = sequence_dataset([[7, 3, 5, 0, 1], [3, 9, 2, 4]], items=10)
    names = ids(data, "sequential").names
    assert [names[item] for item in (7, 3, 5, 9)] == ["item_00", "item_01", "item_02", "item_03"]
    assert sorted(names) == [f"item_{number:02d}" for number in range(10)]


def test_leaking_ids_are_the_numbers_of_the_file():
    data = sequence_dataset([[7, 3, 5, 0, 1], [3, 9, 2, 4]], items=10)
    assert ids(data, "leaking").names == tuple(f"item_{number:02d}" for number in range(10))
    named = replace(data, items=data.items.with_columns(pl.col("item_id") + "x"))
    with pytest.raises(DataError, match=r"item id '0x' of made-up, expected whole numbers; number the items"):
        ids(named, "leaking")


@pytest.mark.parametrize("kind", [*CLEAN, "leaking"])
def test_no_id_begins_another(kind):
    data = sequence_dataset([[item, *range(item + 1, item + 6)] for item in range(0, 110, 3)], items=130)
    names = sorted(ids(data, kind).names)
    assert len(set(names)) == 130
    assert not any(after.startswith(before) for before, after in pairwise(names))


def test_collaborative_ids_of_items_that_go_together_begin_alike():
    """Two groups of users who never choose an item of the other's."""
    rng = np.random.default_rng(0)
    sequences = [[*(rng.permutation(6) + 6 * (user % 2)), 12, 13] for user in range(20)]
    events = make_split(sequence_dataset(sequences, items=14), "leave-last-out").training.interactions
    paths = recursive_clusters(events, 14, clusters=2, most=6, rng=np.random.default_rng(0))
    first, second = ({paths[item][:2] for item in group} for group in (range(6), range(6, 12)))
    assert len(first) == len(second) == 1
    assert first != second
    assert {paths[12][0], paths[13][0]} == {1}  # nobody has them in training
    assert len(set(paths)) == 14
