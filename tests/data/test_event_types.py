"""Weights of events by type and dwell time."""

import numpy as np
import pytest

from palate.data.event_fields import FieldError
from palate.data.event_types import EventTypes, default_weight, dwell_edges, type_name, weights_of

SHOP = EventTypes(weights={"skip": -2.0, "view": 1.0, "purchase": 5.0}, dwell_edges=(10, 20, 40, 80))


@pytest.mark.parametrize("written", ["AddToCart", "add to cart", "ADD-TO-CART", " add_to_cart "])
def test_a_type_is_the_same_however_it_is_written(written):
    assert type_name(written) == "add_to_cart"
    assert default_weight(written) == 3


def test_common_types_have_weights_in_the_order_of_what_they_say():
    skip, view, cart, bought = map(default_weight, ("skip", "pv", "addtocart", "transaction"))
    assert skip < 0 < view < cart < bought
    assert default_weight("teleport") is None


def test_given_weights_win_and_types_without_one_are_named():
    assert weights_of(["view", "buy", "warp"], {"View": 2, "warp": 7}) == (
        {"view": 2, "buy": 5, "warp": 7},
        [],
    )
    assert weights_of(["view", "warp"], {})[1] == ["warp"]


def test_a_longer_dwell_never_weighs_less():
    values = SHOP.values(np.ones(6), np.array([0, 10, 30, 50, 1000, np.nan]))
    assert values.tolist() == [0.5, 0.75, 1, 1.25, 1.5, 1]


def test_dwell_times_are_divided_into_fifths_of_the_events_that_have_one():
    edges = dwell_edges(np.array([*range(1, 11), np.nan], dtype=np.float64))
    found = EventTypes(dwell_edges=edges).values(np.ones(10), np.arange(1, 11.0))
    assert np.bincount((found * 4).astype(int))[2:].tolist() == [2, 2, 2, 2, 2]
    assert dwell_edges(np.array([np.nan])) == ()


def test_what_speaks_against_an_item_is_worth_nothing_and_is_remembered():
    assert SHOP.value("skip", 90) == 0
    assert SHOP.value("Purchase", 90) == 7.5
    assert SHOP.signed((0, 1, 5, 7.5)) == (-2, 1, 5, 7.5)
    assert EventTypes(weights={"view": 1}).signed((1,)) == (1,)


@pytest.mark.parametrize(
    ("types", "event", "said"),
    [
        (SHOP, ("buy",), "event_type is 'buy', expected one of skip, view, purchase"),
        (SHOP, ("vew",), "did you mean 'view'"),
        (SHOP, (None,), "no event_type and no rating; the types are skip, view, purchase"),
        (SHOP, ("view", -1), "dwell is -1, expected seconds, at least 0"),
        (EventTypes(weights={"view": 1}), ("view", 3), "the data has no dwell times"),
        (EventTypes(dwell_edges=(1, 2, 3, 4)), ("view",), "the data has no event types"),
    ],
)
def test_an_event_that_cannot_be_weighed_says_why(types, event, said):
    with pytest.raises(FieldError, match=said):
        types.value(*event)
