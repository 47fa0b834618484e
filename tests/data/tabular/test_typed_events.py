"""palate prepare with event types: views, purchases, skips, and dwell times."""

import numpy as np
import pytest

from bookshop import write_rows
from palate.config.recipe import TaskSettings
from palate.data.dataset import load_dataset
from palate.data.history_file import read_history
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData, own_settings
from palate.errors import DataError, RecipeError
from palate.tasks import load_task


def event(user, item, kind, seconds=None, **more):
    event.time += 10
    return {"user_id": user, "item_id": item, "event": kind, "dwell": seconds, "time": event.time, **more}


event.time = 1_600_000_000
OTHERS = [event(f"other-{user}", "a", "view") for user in range(4)]


def made(tmp_path, rows, name="events.csv", said=None, **settings):
    file = write_rows([*rows, *OTHERS], tmp_path / name)
    report = None if said is None else said.append
    return prepare(file, tmp_path / "out", own=own_settings(None, settings), report=report)


def test_types_are_found_by_name_and_values_and_every_event_counts(tmp_path):
    rows = [
        event("me", "a", "View"),
        event("me", "a", "AddToCart"),
        event("me", "a", "purchase"),
        event("me", "a", "purchase"),
        event("me", "b", "skip"),
    ]
    said = []
    data = made(tmp_path, rows, said=said)
    [mine] = data.histories(["me"])
    assert (mine.item_ids, mine.ratings) == (["a", "a", "a", "a", "b"], [1, 3, 5, 5, 0])
    assert data.info.feedback == "implicit"
    assert data.info.event_types.weights == {"skip": -1, "view": 1, "add_to_cart": 3, "purchase": 5}
    assert (
        "event types with their weights (--event-weights): skip -1 (1), view 1 (5), add_to_cart 3 (1)"
        in str(said)
    )
    again = load_dataset(tmp_path / "out")
    assert again.info == data.info
    assert again.chosen(again.interactions).sum() == len(again.interactions) - 1


def test_given_weights_are_taken(tmp_path):
    rows = [event("me", "a", 4), event("me", "b", 1), event("me", "c", 9)]
    data = made(tmp_path, rows, event_type="event", event_weights="1=1,4=8,9=-3,view=1")
    assert data.histories(["me"])[0].ratings == [8, 1, 0]
    assert data.event_weights == (-3, 1, 8)


def test_merged_events_count_as_the_strongest_at_the_last_time(tmp_path):
    rows = [event("me", "a", "purchase"), event("me", "b", "view"), event("me", "a", "view")]
    mine = made(tmp_path, rows, repeats="merge").histories(["me"])[0]
    assert (mine.item_ids, mine.ratings) == (["b", "a"], [1, 5])


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl", "events.parquet"])
def test_a_longer_dwell_weighs_more(tmp_path, name):
    rows = [event("me", str(seconds), "view", seconds) for seconds in range(1, 11)]
    rows += [event("me", "x", "purchase")]
    ratings = made(tmp_path, rows, name).histories(["me"])[0].ratings
    assert ratings == sorted(ratings)
    assert set(ratings) == {0.5, 0.75, 1, 1.25, 1.5, 5}


def test_dwell_alone_is_enough(tmp_path):
    rows = [event("me", str(seconds), "view", seconds) for seconds in range(1, 11)]
    for row in [*rows, *(dict(one) for one in OTHERS)]:
        row.pop("event", None)
    file = write_rows([*rows, *({**one, "dwell": 3} for one in OTHERS)], tmp_path / "events.csv")
    data = prepare(file, tmp_path / "out", own=OwnData())
    assert data.info.event_types.weights == {}
    assert data.histories(["me"])[0].ratings[-1] == 1.5


def test_a_column_whose_values_are_no_known_types_is_told_and_left(tmp_path):
    said = []
    data = made(tmp_path, [event("me", "a", "purchase"), event("me", "b", "warp")], said=said)
    assert data.info.event_types is None
    assert "'warp' has no known weight" in str(said)


def test_a_single_type_says_nothing(tmp_path):
    data = made(tmp_path, [event("me", "a", "view"), event("me", "a", "view")])
    assert data.info.event_types is None
    assert len(data.histories(["me"])[0]) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"event_type": "event"},
            "no weight for the event type 'warp' in column 'event' .1 event.; give one",
        ),
        ({"event_type": "evnt"}, "no column 'evnt' for the event type; did you mean 'event'"),
        ({"event_type": "event", "rating": "dwell"}, "by their types and dwell times, or by --rating-col"),
        ({"event_type": "event", "weight": "dwell"}, "by their types and dwell times, or by --weight-col"),
        ({"event_type": "event", "feedback": "ratings"}, "leave one out"),
        (
            {"event_type": "event", "event_weights": "view=0,warp=-1"},
            "no event type has a weight above 0",
        ),
        ({"dwell": "event"}, "events.csv:2: the dwell 'warp' is not a number of seconds, at least 0"),
        ({"event_weights": "view=1"}, "which column is the event type"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, settings, said):
    with pytest.raises(DataError, match=said) as caught:
        made(tmp_path, [event("me", "a", "warp")], **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weights", ["view", "view=", "view=x", "view=nan"])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(RecipeError, match="event_weights"):
        own_settings(None, {"event_weights": weights})


def test_a_row_without_a_type_or_with_a_dwell_below_zero_is_bad(tmp_path):
    rows = [event("me", "a", "view"), event("me", "b", " "), event("me", "c", "purchase", -3)]
    with pytest.raises(DataError, match=r"events.csv:3: no event type in column 'event'"):
        made(tmp_path, rows, event_type="event")
    data = made(tmp_path, rows, event_type="event", skip_bad_rows=True)
    assert (data.info.report["bad_rows"], data.histories(["me"])[0].item_ids) == (2, ["a"])


def test_a_history_file_names_types_as_events_do(tmp_path):
    data = made(
        tmp_path, [event("me", "a", "view", 3), event("me", "b", "purchase"), event("me", "b", "skip")]
    )
    sent = [
        {"item_id": "a", "event_type": "Purchase"},
        {"item_id": "b", "event_type": "skip"},
        {"item_id": "b", "rating": 5},
    ]
    file = write_rows([{"event_type": None, "rating": None, **one} for one in sent], tmp_path / "me.jsonl")
    assert read_history(file, data.info.unrated)[0].ratings == [5, 0, 5]
    with pytest.raises(DataError, match=r"me.jsonl:1: event_type is given, but the data has no event types"):
        read_history(file, 1.0)
    both = write_rows([{"item_id": "a", "event_type": "view", "rating": 1}], tmp_path / "both.csv")
    with pytest.raises(DataError, match=r"both.csv:2: both rating and event_type; give one of them"):
        read_history(both, data.info.unrated)


def test_what_was_skipped_is_never_among_the_liked_categories(tmp_path):
    items = [
        {"item_id": f"{subject}-{n}", "title": f"{subject} {n}", "categories": subject}
        for subject in ("Crime", "Poetry", "Travel")
        for n in range(6)
    ]
    rows = [event("me", f"Crime-{n}", "skip") for n in range(6)]
    rows += [event("me", f"Poetry-{n}", "view") for n in range(4)]
    for user in range(6):
        rows += [event(f"all-{user}", item["item_id"], "view") for item in items]
    own = own_settings(None, {"items": str(write_rows(items, tmp_path / "items.csv"))})
    data = prepare(write_rows(rows, tmp_path / "events.csv"), tmp_path / "out", own=own, min_ratings=1)
    mine = data.statistics[np.array([data.user_index("me")])]
    assert dict(zip(data.categories, mine.total[0], strict=True)) == {"Crime": 0, "Poetry": 4, "Travel": 0}
    task = load_task(TaskSettings(min_count=2), data.info)
    [text] = task.target_texts(task.labels(mine))
    assert text.startswith("The user likes Poetry and doesn't like")
    assert "Crime" in text
