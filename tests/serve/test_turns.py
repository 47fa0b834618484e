"""Slow and large requests leave room for others: turns of threads, and the rate at which large bodies are read."""

import time

import anyio
import pytest

from palate.serve import waiting
from palate.serve.gate import Gate
from palate.serve.requests import SMALL
from palate.serve.settings import Limits
from palate.serve.waiting import OverloadedError, Pace, Turns


def working():
    time.sleep(0.01)
    return "done"


async def twice(turns):
    """What a second piece of work gives after a first; None if its turn has not come after a while."""
    await turns.take(working)
    with anyio.move_on_after(0.3):
        return await turns.take(working)


def test_a_thread_that_rests_is_not_given_to_others():
    assert anyio.run(twice, Turns(1, 1, rest=1e9)) is None
    assert anyio.run(twice, Turns(2, 1, rest=1e9)) == "done"
    assert anyio.run(twice, Turns(1, 1)) == "done"


def test_more_than_may_wait_are_refused():
    async def third(turns):
        async with anyio.create_task_group() as group:
            group.start_soon(turns.take, lambda: time.sleep(0.3))
            group.start_soon(turns.take, working)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(OverloadedError):
                await turns.take(working)

    anyio.run(third, Turns(1, 1))


@pytest.fixture
def clock(monkeypatch):
    """Seconds that have passed, which only sleeping moves on."""
    clock = [0.0]

    async def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr(waiting.anyio, "current_time", lambda: clock[0])
    monkeypatch.setattr(waiting.anyio, "sleep", sleep)
    return clock


def test_a_second_of_bytes_passes_at_once_and_more_at_the_rate(clock):
    async def take(*counts):
        pace = Pace(100)
        for count in counts:
            await pace.take(count)
        return clock[0]

    assert anyio.run(take, 60, 40) == 0
    clock[0] = 0.0
    assert anyio.run(take, 60, 40, 50, 50) == pytest.approx(1)
    clock[0] = 0.0
    assert anyio.run(take, 400) == pytest.approx(3)


def received(clock, *sizes):
    """The seconds that a body in pieces waits, and what the application gets of it."""
    pieces, got = [b"x" * size for size in sizes], []

    async def app(scope, receive, send):
        got.append((await receive())["body"])

    async def receive():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message):
        raise AssertionError(message)

    gate = Gate(app, Limits(body_rate=SMALL), None)
    scope = {"type": "http", "method": "POST", "path": "/views", "headers": [(b"host", b"localhost")]}
    anyio.run(gate, {**scope, "raw_path": b"/views"}, receive, send)
    assert gate.held == 0
    return clock[0], len(got[0])


def test_a_small_body_never_waits_and_a_large_one_comes_at_the_rate(clock):
    assert received(clock, SMALL // 2, SMALL // 2) == (0, SMALL)
    assert received(clock, SMALL, SMALL, SMALL, SMALL) == (2, 4 * SMALL)
