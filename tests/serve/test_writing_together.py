"""Events of concurrent requests are committed together, with a response for each."""

import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.errors import ConflictError, DataError, StoreError, StoreFullError
from palate.serve.groups import GroupWorker
from palate.serve.store.appending import Addition
from palate.serve.store.changes import Appended, Event, ItemsRemovedError
from palate.serve.store.store import UserStore

LATER = 2**40


def together(store, *additions):
    return store._append_all([Addition(*one) for one in additions])


def test_one_that_is_refused_takes_no_other_with_it(store):
    store.append({"ann": [Event("a", 3.0, 1, "first")]})
    outcomes = together(
        store,
        ({"ann": [Event("b", 4.0, 2, "second")]},),
        ({"ann": [Event("c", 1.0, 3, "third"), Event("a", 5.0, 1, "first")], "eve": [Event("a", 1.0, 1)]},),
        ({"bob": [Event("a", 3.0, 1)]},),
        ({"new": [Event("a", 3.0, LATER)]},),
        ({"new": [Event("a", 3.0, 1)]}, 7),
        ({"ann": [Event("b", 4.0, 2, "second")]},),
    )
    assert [outcomes[number]["ann"] for number in (0, 5)] == [
        Appended(version=2, new=1, known=0),
        Appended(version=2, new=0, known=1),
    ]
    assert outcomes[2]["bob"].version == 1
    assert [type(one) for one in (outcomes[1], outcomes[3], outcomes[4])] == [
        ConflictError,
        DataError,
        ItemsRemovedError,
    ]
    assert store.user_ids("", 9) == ["ann", "bob"]
    assert store.history("ann").history.event_ids == ["first", "second"]


event_of = st.builds(
    Event,
    st.sampled_from("ab"),
    st.sampled_from([1.0, 5.0]),
    st.integers(0, 3) | st.just(LATER),
    st.sampled_from("uvwxyz") | st.none(),
)
additions = st.dictionaries(
    st.sampled_from(["ann", "bob"]), st.lists(event_of, min_size=1, max_size=3), min_size=1
)


def contents(store):
    found = {}
    for name in store.user_ids("", 9):
        history = store.history(name)
        rows = zip(history.history.item_ids, history.history.ratings, history.history.timestamps, strict=True)
        found[name] = history.version, list(rows)
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(additions, max_size=2), sent=st.lists(additions, min_size=1, max_size=5))
def test_together_they_are_as_one_after_the_other(tmp_path_factory, before, sent):
    stores = [UserStore(tmp_path_factory.mktemp("together") / "users.sqlite") for _ in range(2)]
    results = []
    for store, groups in zip(stores, ([sent], [[one] for one in sent]), strict=True):
        for one in before:
            together(store, (one,))
        results.append(
            [outcome for group in groups for outcome in together(store, *((one,) for one in group))]
        )
    plain = [[type(one) if isinstance(one, Exception) else one for one in some] for some in results]
    assert plain[0] == plain[1]
    assert contents(stores[0]) == contents(stores[1])
    for store in stores:
        store.close()


def test_what_waits_during_a_commit_is_the_next_group():
    groups, go = [], threading.Event()

    def commit(some):
        groups.append(len(some))
        go.wait()
        return [{} for _ in some]

    writer = GroupWorker(commit, lambda addition: len(addition.sent), 100, "writer")
    answers = [writer.submit(Addition({"ann": [Event("a", 1.0)]}))]
    while not groups:
        time.sleep(0.001)
    answers += [writer.submit(Addition({"ann": [Event("a", 1.0)]})) for _ in range(30)]
    assert answers[7].cancel()
    assert not answers[0].cancel()
    go.set()
    writer.stop()
    assert groups == [1, 29]
    assert all(one.cancelled() or one.result() == {} for one in answers)
    with pytest.raises(StoreError, match="the store is closed"):
        writer.submit(Addition({}))


@pytest.mark.parametrize(
    ("error", "alone"),
    [(StoreError("busy"), False), (StoreFullError("full"), True), (ValueError("its own"), True)],
)
def test_an_error_of_a_transaction_is_that_of_whom_it_concerns(error, alone):
    """A database that is busy is so for all; what else goes wrong may be of one request."""
    bad, good = Addition({"bad": []}), Addition({"good": []})

    def commit(some):
        if bad in some:
            raise error
        return [{} for _ in some]

    writer = GroupWorker(commit, lambda addition: len(addition.sent), 100, "writer")
    with writer._changed:  # so that the three are a group
        answers = [writer.submit(one) for one in (good, bad, good)]
    writer.stop()
    raised = [one.exception() for one in answers]
    assert raised == ([None, error, None] if alone else [error] * 3)
