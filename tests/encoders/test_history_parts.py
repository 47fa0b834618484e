"""Stored history states: exact counts, the newest events, and bytes per user."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from palate.encoders.batch import CategoryCatalogue, event_number, window_tensors, windows_of
from palate.encoders.history_parts import RECENT, HistoryParts
from palate.errors import DataError, MismatchError
from palate.items.categories import MEMBER, CategoryTable
from palate.schema import History, Item

SCALE = np.arange(0.5, 5.5, 0.5, dtype=np.float32)
STEPS = torch.arange(1, 11)


def table_of(items=200, categories=30, seed=0):
    rng = np.random.default_rng(seed)
    membership = (rng.random((items, categories)) < 3 / categories).astype(np.int16) * MEMBER
    names = tuple(f"a tag with a name of some length {number}" for number in range(categories))
    ids = [f"item-{number}" for number in range(items)]
    return CategoryTable(ids, ids, membership, names, SCALE, "tag")


def state_of(events, table):
    """The state of (item, rating index, time, event id)s; every event has an id, "" for none."""
    item, rating, time, name = zip(*events, strict=True) if events else ((), (), (), ())
    ids = [table.item_ids[one] for one in item]
    history = History("me", ids, [float(SCALE[one]) for one in rating], time, name)
    windows = windows_of([history], table)
    return HistoryParts.of(CategoryCatalogue(table)(**window_tensors(windows)), STEPS)


def merged(parts, table):
    state = HistoryParts.empty(1, len(table.categories))
    for part in parts:
        state = state.merge(state_of(part, table))
    return state


def content(state):
    """All numbers of a state, without the padding."""
    recent = state.recent
    columns = recent.item, recent.rating, recent.time, recent.event
    events = [column[recent.mask].tolist() for column in columns]
    counts = state.counts
    return (
        [
            column.tolist()
            for column in (counts.count, counts.total, counts.squares, counts.length, counts.whole)
        ],
        events,
        recent.number.tolist(),
        recent.since.tolist(),
    )


def drawn(count, seed=0, items=200):
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 60, count)  # many at the same time
    return [
        (int(item), int(rng.integers(10)), int(time), rng.choice(["", f"event of {item}"]))
        for item, time in zip(rng.permutation(items)[:count], times, strict=True)
    ]


@given(st.integers(0, 10_000), st.integers(0, 120), st.integers(1, 5))
def test_the_parts_of_a_history_in_any_order_are_the_whole(seed, count, parts):
    table, events = table_of(), drawn(count, seed)
    rng = np.random.default_rng(seed)
    owner = rng.integers(parts, size=count)
    pieces = [[events[row] for row in np.flatnonzero(owner == part)] for part in rng.permutation(parts)]
    assert content(merged(pieces, table)) == content(state_of(events, table))


def test_the_newest_events_are_kept_in_order():
    table, events = table_of(), drawn(120)
    newest = sorted(events, key=lambda event: (event[2], event[0]))[-RECENT:]
    recent = state_of(events, table).recent
    found = zip(recent.item[0].tolist(), recent.rating[0].tolist(), recent.time[0].tolist(), strict=True)
    assert list(found) == [event[:3] for event in newest]
    assert recent.event[0].tolist() == [event_number(event[3]) for event in newest]
    assert {event_number(""), event_number(None)} == {0}


@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(0, 100))
def test_what_is_removed_was_never_there(seed, count, share):
    table, events = table_of(), drawn(count, seed)
    taken, left = events[: count * share // 100], events[count * share // 100 :]
    state = state_of(events, table).remove(state_of(taken, table))
    fresh = state_of(left, table)
    assert content(state)[0] == content(fresh)[0]
    # of the newest events those are known that are newer than all that was ever dropped
    since = tuple(state.recent.since[0].tolist())
    known = sorted((event for event in left if (event[2], event[0]) > since), key=lambda e: (e[2], e[0]))
    assert state.recent.item[state.recent.mask].tolist() == [event[0] for event in known]


def test_more_than_was_added_cannot_be_removed():
    table, events = table_of(), drawn(5)
    with pytest.raises(MismatchError, match="rebuild them from the stored events"):
        state_of(events[:2], table).remove(state_of(events, table))


@pytest.mark.parametrize(("categories", "most"), [(30, 4096), (500, 16_384)])
def test_a_user_takes_few_bytes(categories, most):
    """As the documents say it, with a long history."""
    table = table_of(items=20_000, categories=categories)
    events = [(item, item % 10, 1_700_000_000 + 1000 * item, "") for item in range(10_000)]
    data = state_of(events, table).to_bytes(table)
    assert len(data) <= most
    assert len(data) > most / 4
    named = [(*event[:3], f"event {event[0]}") for event in events]
    assert len(data) + 8 * RECENT < len(state_of(named, table).to_bytes(table)) <= most


def test_a_state_comes_back_with_more_items_and_categories():
    table, events = table_of(), drawn(80)
    state = state_of(events, table)
    longer = table.extended([Item("new", "New", ("a tag nobody has heard of",))])
    again = HistoryParts.from_bytes(state.to_bytes(table), longer)
    assert content(again)[1:] == content(state)[1:]
    for name in ("count", "total", "squares"):
        column = getattr(again.counts, name)
        assert torch.equal(column[:, :-1], getattr(state.counts, name))
        assert not column[:, -1].any()


def test_a_state_finds_its_categories_wherever_they_stand():
    table, events = table_of(), drawn(80)
    order = np.random.default_rng(1).permutation(30)
    names = tuple(table.categories[row] for row in order)
    moved = CategoryTable(table.item_ids, table.titles, table.membership[:, order], names, SCALE, "tag")
    again = HistoryParts.from_bytes(state_of(events, table).to_bytes(table), moved)
    assert content(again) == content(state_of(events, moved))


def _with(data, **changes):
    """The bytes with other entries in their header."""
    made = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["state"])
    return save(load(data), metadata={"state": json.dumps({**made, **changes})})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:100], "not a user state"),
        (lambda data: b"", "not a user state"),
        (lambda data: _with(data, parts={"counts": 1, "recent": 1}), r"the parts are .*expected"),
        (lambda data: _with(data, digest="sha256:0"), "it was written for other items"),
        (lambda data: _with(data, items=10_000), "it was written for other items"),
        (lambda data: save(load(data)), "not a user state"),
        (
            lambda data: _with(
                save({**load(data), "recent.item": np.full((1, 5), 999)}, {"state": json.dumps(_made(data))})
            ),
            "do not fit|out of range",
        ),
    ],
)
def test_damaged_and_foreign_states_are_refused(damage, said):
    table = table_of()
    data = state_of(drawn(5), table).to_bytes(table)
    with pytest.raises(DataError, match=f"(?s){said}.*rebuild it from the stored events"):
        HistoryParts.from_bytes(damage(data), table)


def _made(data):
    return json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["state"])


def test_an_item_whose_categories_have_changed_makes_the_state_another():
    table, events = table_of(), drawn(5)
    changed = table.membership.copy()
    changed[0, 0] = MEMBER - changed[0, 0]
    other = CategoryTable(table.item_ids, table.titles, changed, table.categories, SCALE, "tag")
    with pytest.raises(DataError, match="items with other categories"):
        HistoryParts.from_bytes(state_of(events, table).to_bytes(table), other)


def test_users_of_one_batch_do_not_mix():
    table = table_of()
    histories = [
        History(
            str(number),
            [table.item_ids[item] for item, *_ in events],
            [3.0] * len(events),
            [event[2] for event in events],
        )
        for number, events in enumerate((drawn(70, 1), [], drawn(3, 2)))
    ]
    together = HistoryParts.of(
        CategoryCatalogue(table)(**window_tensors(windows_of(histories, table))), STEPS
    )
    for row, history in enumerate(histories):
        windows = windows_of([history], table)
        alone = HistoryParts.of(CategoryCatalogue(table)(**window_tensors(windows)), STEPS)
        assert content(together[row : row + 1]) == content(alone)


def test_an_event_with_another_id_is_another_event():
    table, name = table_of(), event_number("first")
    state = state_of([(3, 5, 10, "first"), (4, 5, 11, "")], table)
    for named, left in (("other", [3, 4]), ("first", [4]), ("", [4])):
        taken = state_of([(3, 5, 10, named)], table)
        assert state.recent.remove(taken.recent).item.tolist()[0] == left
    again = HistoryParts.from_bytes(state.to_bytes(table), table)
    assert again.recent.event.tolist() == [[name, 0]]


def test_event_ids_are_for_every_event_or_for_none():
    table = table_of()
    with pytest.raises(DataError, match=r"has 1 item ids and 2 event ids; give each interaction one \(''"):
        windows_of([History("me", ["item-1"], [1.0], [0], ["a", "b"])], table)


def test_windows_keep_the_ids_of_their_events():
    table = table_of()
    histories = [
        History("a", ["item-1", "item-2", "item-1"], [1.0, 2.0, 3.0], [0, 1, 2], ["x", "y", "z"]),
        History("b", ["item-3"], [1.0], [5]),
    ]
    windows = windows_of(histories, table)
    names = [[event_number("y"), event_number("z")], [0, 0]]
    assert windows.event_number.tolist() == names
    assert windows[np.array([1, 0])].event_number.tolist() == names[::-1]
    assert windows.columns(1, 2).event_number.tolist() == [[names[0][1]], [0]]
    assert windows[1:].trimmed().event_number.tolist() == [[0]]
