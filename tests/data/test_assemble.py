"""Filtering, order and splits of a dataset."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.assemble import Rules, assemble, split_users
from palate.errors import DataError, PalateError
from palate.schema import SPLITS, Item

CATALOGUE = [Item(str(number), f"Film {number}") for number in (2, 3, 10, 21)]
SCHEMA = {"user_id": pl.UInt32, "item_id": pl.UInt32, "rating_index": pl.UInt8, "timestamp": pl.Int64}


def assembled(rows, rules):
    return assemble(pl.DataFrame(rows, schema=SCHEMA, orient="row"), CATALOGUE, rules)


def slowly(rows, least):
    """The same rules, one rating at a time."""
    known = {int(item.item_id): index for index, item in enumerate(CATALOGUE)}
    latest = {}
    for position, (user, movie, rating, time) in enumerate(rows):
        pair = (user, movie)
        if movie in known and (pair not in latest or latest[pair][0] <= time):
            latest[pair] = (time, position, known[movie], rating)
    by_user = {}
    for (user, _), event in sorted(latest.items(), key=lambda entry: entry[1][:2]):
        by_user.setdefault(user, []).append((event[2], event[3], event[0]))
    return {str(user): by_user[user] for user in sorted(by_user) if len(by_user[user]) >= least}


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([1, 9, 10, 11, 100, 200]),
            st.sampled_from([2, 3, 7, 10, 21, 99]),
            st.integers(0, 4),
            st.integers(-2, 3),
        ),
        max_size=60,
    ),
    least=st.integers(1, 3),
)
def test_the_tables_follow_the_rules(rows, least):
    rules = Rules(min_ratings=least, dev_share=0.3, test_share=0.3)
    expected = slowly(rows, least)
    if len(expected) < 3:
        with pytest.raises(
            DataError, match=rf"{len(expected)} users with at least {least} ratings are too few"
        ):
            assembled(rows, rules)
        return
    tables, dropped = assembled(rows, rules)
    events = tables.interactions
    found = {
        user: list(
            zip(
                events.item_index[start:end].tolist(),
                events.rating_index[start:end].tolist(),
                events.timestamp[start:end].tolist(),
                strict=True,
            )
        )
        for user, start, end in zip(tables.user_ids, events.offsets[:-1], events.offsets[1:], strict=True)
    }
    assert list(found) == list(expected)
    assert found == expected
    unknown = sum(movie in (7, 99) for _, movie, *_ in rows)
    assert dropped.ratings_of_unknown_items == unknown
    assert dropped.duplicate_ratings == len(rows) - unknown - len(
        {(user, movie) for user, movie, *_ in rows if movie not in (7, 99)}
    )
    assert len(events) == (
        len(rows) - unknown - dropped.duplicate_ratings - dropped.ratings_of_left_out_users
    )


@given(users=st.integers(3, 300), seed=st.integers(0, 5), most=st.integers(1, 40))
def test_splits_have_their_share_and_none_is_empty(users, seed, most):
    rules = Rules(seed=seed, max_held_out=most)
    sizes = np.bincount(split_users(users, rules), minlength=len(SPLITS))
    held_out = min(max(1, round(users * 0.1)), most)
    assert sizes.tolist() == [users - 2 * held_out, held_out, held_out]


def test_splits_depend_on_the_seed_alone():
    first, again, other = (split_users(100, Rules(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_too_few_users_are_refused():
    with pytest.raises(
        DataError, match="2 users with at least 20 ratings are too few for the splits train, dev"
    ):
        split_users(2, Rules())


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"min_ratings": 0}, "min_ratings is 0"),
        ({"max_held_out": 0}, "max_held_out is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"dev_share": 0.0}, "dev_share is 0.0 and test_share 0.1"),
        ({"dev_share": 0.5, "test_share": 0.5}, "their sum below 1"),
        ({"dev_share": float("nan")}, "dev_share is nan"),
    ],
)
def test_settings_out_of_range_are_refused(setting, complaint):
    with pytest.raises(PalateError, match=complaint):
        Rules(**setting)
