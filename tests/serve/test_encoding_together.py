"""Users who wait are encoded in the same passes as if each were alone, and their encodings are cached behind them."""

import asyncio
import random
import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.errors import StoreFullError, UnknownUserError
from palate.model.history_state import HistoryState, HistoryStates
from palate.model.model import load_model
from palate.schema import History, Item
from palate.serve.engine import ServedModel, Users
from palate.serve.store.changes import Event
from palate.serve.store.keeping import BEHIND, CacheWriter, Encoded, Keeping
from palate.serve.store.store import UserStore
from serving import append, ask, expected, prompts_of, sent

WITH_STATE = ["streaming", "recency", "universal", "latent"]
KINDS = [*WITH_STATE, "uem", "text"]


def together(users, names):
    """Encode users as concurrent requests do, all in one group."""

    async def all_of_them():
        return await asyncio.gather(*map(users.encoded_soon, names), return_exceptions=True)

    held, encode = threading.Event(), users._encoder._do
    users._encoder._do = lambda group: held.wait(20) and encode(group)
    users._encoder.submit("nobody")  # holds the thread until all are queued
    threading.Timer(0.2, held.set).start()
    try:
        return asyncio.run(all_of_them())
    finally:
        users._encoder._do = encode


def history_of(events):
    return History("", *zip(*events, strict=True)) if events else History("", (), (), ())


@pytest.mark.parametrize("kind", WITH_STATE)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), users=st.integers(1, 4), steps=st.integers(1, 3))
def test_states_of_several_users_are_those_of_each(run_of, tiny_data, kind, seed, users, steps):
    model, draw = load_model(run_of(kind), device="cpu"), random.Random(seed)
    alone, kept = [HistoryState(model) for _ in range(users)], None
    there = [[] for _ in range(users)]
    for step in range(steps):
        added = [
            [
                (item, float(draw.randint(1, 5)), 100 * step + at)
                for at, item in enumerate(draw.sample(tiny_data.item_ids[10 * step : 10 * step + 10], size))
            ]
            for size in (draw.choice([0, 1, 1, 7]) for _ in range(users))
        ]
        gone = [draw.sample(some, draw.choice([0, 0, len(some) // 2])) for some in there]
        states = HistoryStates.empty(model, users) if kept is None else HistoryStates.load(model, kept)
        states.add(list(map(history_of, added)))
        lost = states.remove(list(map(history_of, gone)))
        for row, (state, more, less) in enumerate(zip(alone, added, gone, strict=True)):
            there[row] = [one for one in there[row] + more if one not in less]
            state.add(history_of(more))
            state.remove(history_of(less), history_of(there[row]))
            if row in lost:
                assert "latent" in kind or kind in ("streaming", "recency")
        prompts, kept = states.user_prompts(), states.to_bytes()
        for row, state in enumerate(alone):
            if row in lost:
                kept[row] = state.to_bytes()
                continue
            torch.testing.assert_close(
                prompts[row].embeddings, state.user_prompt().embeddings, atol=1e-4, rtol=1e-3
            )
            again = model.load_state(kept[row])
            assert len(again) == len(state) == len(there[row])
            torch.testing.assert_close(again.prompt(), state.prompt(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_users_together_are_encoded_as_each_alone(run_of, tiny_data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("palate.serve.engine.LONG", 30)
    users = Users(ServedModel(run_of(kind)), UserStore(tmp_path / "users.sqlite"))
    served, draw = users.served, random.Random(2)
    names = ["new", "same", "more", "again", "gone", "last", "long"]
    for name in names:
        size = 40 if name == "long" else draw.randint(2, 20)
        some = draw.sample(tiny_data.item_ids, size)
        append(users, {name: [Event(item, float(draw.randint(1, 5)), at) for at, item in enumerate(some)]})
    origins = dict(
        zip(names, ["anew", "kept", "advanced", "advanced", "anew", "advanced", "anew"], strict=True)
    )
    for name in names[1:-1]:
        users.encoded(name)
    items = {name: users.store.history(name).history.item_ids for name in names}
    for name in ("more", "last", "gone"):
        fresh = next(item for item in tiny_data.item_ids if item not in items[name])
        append(users, {name: [Event(fresh, 2.0, 50)]})
    append(users, {"again": [Event(items["again"][0], 1.0, 60)]})  # supersedes an earlier rating
    append(users, {"last": [Event(items["last"][-1], 3.0, 61)]})
    users.store.delete_events("gone", item_ids=[items["gone"][0]])

    found = dict(zip([*names, "nobody"], together(users, [*names, "nobody"]), strict=True))
    assert isinstance(found.pop("nobody"), UnknownUserError)
    for name, (made, origin) in found.items():
        stored = users.store.history(name)
        assert made.version == stored.version
        torch.testing.assert_close(
            served.prompt_from(made).embeddings[0],
            prompts_of(served.model, [stored.history])[0],
            atol=2e-4,
            rtol=2e-3,
        )
        assert users.encoded(name) == (made, "kept")  # at once, though it is written behind
        if served.model.keeps_state:
            assert origin == origins[name] or (name in ("again", "last") and origin == "anew")
            assert len(served.model.load_state(made.state)) == len(stored.history)
        else:
            assert origin == origins[name].replace("advanced", "anew")


def test_one_user_that_cannot_be_encoded_stops_no_other(run, tmp_path, tiny_data):
    users = Users(ServedModel(run), UserStore(tmp_path / "users.sqlite"))
    append(users, {name: [Event(tiny_data.item_ids[0], 4.0, 1)] for name in ("ann", "bob")})
    key = users.store.encoded("ann", users.served.identity).key
    users.store.keep(key, users.served.identity, Encoded(1, b"", b"no state"))
    append(users, {name: [Event(tiny_data.item_ids[1], 4.0, 2)] for name in ("ann", "bob")})
    ann, bob = together(users, ["ann", "bob"])
    assert "not a user state" in str(ann)
    assert bob[0].version == 2


def test_answers_do_not_wait_for_the_cache(serve, model, tiny_data):
    """No encoding is written as long as the questions are asked."""
    server = serve()
    store, go_on = server.app.app.state.service.store, threading.Event()
    write = store._keep_all
    store._keeper._worker._do = lambda group: go_on.wait(60) and write(group)
    histories = tiny_data.histories(tiny_data.user_ids[:20])
    for history in histories:
        server.post(f"/users/{history.user_id}/events", json=sent(history)).raise_for_status()
    try:
        for _ in range(2):
            answered = ask(server, *({"user_id": one.user_id} for one in histories))
            assert [one["text"] for one in answered] == expected(model, histories)
    finally:
        go_on.set()


class Held:
    """A store whose cache is written only when a test says so."""

    def __init__(self, store):
        self.store, self.groups = store, []
        self._write, self._go_on = store._keep_all, threading.Semaphore(0)
        store._keeper._worker._do = self._held

    def _held(self, group):
        self._go_on.acquire(timeout=20)
        self.groups.append(list(group))
        return self._write(group)

    def let_write(self, *waiting):
        self._go_on.release(100)
        for one in waiting:
            one.result(20)


def test_what_waits_to_be_written_is_read_and_the_newest_is_written(store):
    store.append({"ann": [Event("a", 1.0, 1), Event("b", 1.0, 2)]})
    key, *_ = store.encoded("ann", "model")
    held = Held(store)
    waiting = [store.keep(key, "model", Encoded(version, b"%d" % version)) for version in (1, 2, 1)]
    assert store.encoded("ann", "model").kept == Encoded(2, b"2")
    assert store.encoded("ann", "another").kept is None
    held.let_write(*waiting)
    assert store.encoded("ann", "model").kept == Encoded(2, b"2")
    assert not store._keeper.waiting()
    store.keep(key, "model", Encoded(1, b"late")).result(20)
    assert store.encoded("ann", "model").kept == Encoded(2, b"2")


def test_a_deletion_wins_over_what_waits_to_be_written(store):
    names = ["user", "events", "items"]
    store.append({name: [Event("a", 1.0, 1), Event("b", 1.0, 2)] for name in names})
    keys = {name: store.encoded(name, "model").key for name in names}
    held = Held(store)
    waiting = [store.keep(keys[name], "model", Encoded(2, b"of a", b"of a"), 0) for name in names]
    assert all(store.encoded(name, "model").kept for name in names)
    store.delete_user("user")
    store.append({"user": [Event("b", 1.0, 1)]})
    store.delete_events("events", item_ids=["a"])
    store.delete_items(["a"])  # unknown, so that it deletes nothing
    assert store.encoded("items", "model").kept is not None
    store.add_items([Item("x", "Film (1999)", ("Drama",))])
    store.delete_items(["x"])
    assert [store.encoded(name, "model").kept for name in names] == [None] * 3
    held.let_write(*waiting)
    assert [store.encoded(name, "model").kept for name in names] == [None] * 3


def test_a_slow_database_delays_no_request_and_fills_no_memory():
    go_on = threading.Event()
    writer = CacheWriter(lambda group: go_on.wait(20) and [None] * len(group))
    waiting = []
    while not writer.behind:
        waiting.append(writer.keep(Keeping(len(waiting), "model", Encoded(1, bytes(2**20)))))
    assert (BEHIND + 1) / 257 <= len(waiting) <= BEHIND / 257 + 1
    go_on.set()
    for one in waiting:
        one.result(20)
    assert not writer.behind
    assert not writer.waiting()
    writer.stop()


def test_an_encoding_that_cannot_be_written_is_forgotten(store, monkeypatch):
    def full(*_):
        raise StoreFullError("full")

    store.append({"ann": [Event("a", 1.0, 1)]})
    key, *_ = store.encoded("ann", "model")
    store._keeper._worker._do = full
    assert isinstance(store.keep(key, "model", Encoded(1, b"1")).exception(20), StoreFullError)
    assert store.encoded("ann", "model").kept is None
    assert not store._keeper.waiting()
