"""One user's events never affect another's answer: a server with many users against one with a single user."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from palate.serve.app import create_app
from palate.serve.settings import ServeSettings

ITEMS = st.integers(1, 60).map(str)
RATING = st.integers(1, 5)
EVENT = st.fixed_dictionaries(
    {"item_id": ITEMS, "rating": RATING, "timestamp": st.integers(1, 10)},
    optional={"text": st.text(max_size=5)},
)
STEP = st.one_of(
    st.tuples(st.just("add"), st.lists(EVENT, min_size=1, max_size=4)),
    st.tuples(st.just("remove"), ITEMS),
    st.tuples(st.just("ask"), st.none()),
    st.tuples(st.just("delete"), st.none()),
)
INTERLEAVED = st.lists(st.tuples(st.sampled_from(["ann", "bob", "eve"]), STEP), min_size=2, max_size=10)


@pytest.fixture(scope="module")
def servers(run, recommender_run, tmp_path_factory):
    """Two servers of the same models: one of everybody, one of a single user."""
    from fastapi.testclient import TestClient

    folder, opened = tmp_path_factory.mktemp("isolated"), []
    for name in ("everybody", "alone"):
        made = ServeSettings(run=run, recommender=recommender_run, store=str(folder / f"{name}.sqlite"))
        opened.append(TestClient(create_app(made), base_url="http://127.0.0.1:8000").__enter__())
    yield opened
    for one in opened:
        one.__exit__(None, None, None)


def do(server, number, user, step, others=()):
    """Do a step as a user; gives what the server says to the user, and only of the user."""
    kind, what = step
    if kind == "add":
        events = [{**event, "event_id": f"{number}-{at}"} for at, event in enumerate(what)]
        return server.post(f"/users/{user}/events", json=events).json()
    if kind == "remove":
        return server.delete(f"/users/{user}/events", params={"item_id": what}).json().get("events")
    if kind == "delete":
        return server.delete(f"/users/{user}").json()
    return said_of(server, user, others)


def said_of(server, user, others=()):
    """Everything that is answered about a user, asked together with others."""
    asked = [{"user_id": one} for one in (*others, user)]
    answered = server.post("/answers", json={"questions": asked})
    if answered.status_code == 404:  # some of them are not there: the user alone, then
        answered = server.post("/answers", json={"questions": asked[-1:]})
    listed = server.post("/recommendations", json={"users": [{"user_id": user}], "k": 20})
    rated = server.post("/ratings", json={"users": [{"user_id": user}], "item_ids": ["1", "2", "3"]})
    prompt = server.get(f"/users/{user}/prompt")
    view = server.post("/views", json={"user_id": user})
    history = server.get(f"/users/{user}/history")
    return [
        answered.json()["answers"][-1] if answered.is_success else answered.json(),
        *(one.json() for one in (listed, rated, view, history)),
        load(prompt.content)["user_prompt"].tolist() if prompt.is_success else prompt.json(),
    ]


def check_same(said, alone):
    """Everything is equal, and prompts to rounding: users who wait together are encoded in the same passes."""
    if isinstance(said, list) and isinstance(said[-1], list):
        np.testing.assert_allclose(said.pop(), alone.pop(), rtol=1e-4, atol=1e-5)
    assert said == alone


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=INTERLEAVED)
def test_answers_are_those_of_a_server_that_has_nobody_else(servers, steps):
    everybody, alone = servers
    for server in servers:
        for user in ("ann", "bob", "eve"):
            server.delete(f"/users/{user}")
    for number, (user, step) in enumerate(steps):
        said = do(everybody, number, user, step, others=("bob", "eve"))
        if user == "ann":
            check_same(said, do(alone, number, user, step))
    check_same(said_of(everybody, "ann", ("bob", "eve")), said_of(alone, "ann"))
