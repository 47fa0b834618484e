"""Weights of events sent to a server: by rating, or by type if the data has event types."""

import pytest

from palate.data.event_types import EventTypes
from palate.errors import DataError
from palate.serve.requests import events_by_user
from palate.serve.schemas import GivenEvent, given_history

TYPES = EventTypes(weights={"skip": -1, "view": 1, "purchase": 5}, dwell_edges=(10, 20, 40, 80))


def test_stored_events_count_by_type_and_dwell():
    lines = (
        b'{"user_id": "a", "item_id": "1", "event_type": "Purchase"}\n'
        b'{"user_id": "a", "item_id": "1", "event_type": "view", "dwell": 100}\n'
        b'{"user_id": "a", "item_id": "2", "event_type": "skip"}\n'
        b'{"user_id": "a", "item_id": "2", "rating": 5}'
    )
    assert [one.rating for one in events_by_user(lines, TYPES, 100)["a"]] == [5, 1.5, 0, 5]


def test_a_type_that_is_unknown_or_that_the_data_does_not_have_is_refused_by_line():
    for unrated, said in (
        (TYPES, "line 1: event_type is 'warp', expected one of"),
        (1.0, "line 1: event_type is given"),
    ):
        with pytest.raises(DataError, match=said):
            events_by_user(b'{"user_id": "a", "item_id": "1", "event_type": "warp"}', unrated, 100)


def test_a_history_in_a_request_counts_as_one_in_a_file():
    sent = [GivenEvent(item_id="1", event_type="purchase"), GivenEvent(item_id="2", event_type="skip")]
    assert list(given_history(sent, TYPES)[0].ratings) == [5, 0]
