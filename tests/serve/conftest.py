"""Fixtures: user stores, and servers of a tiny trained run."""

from contextlib import ExitStack
from itertools import count

import pytest
from fastapi.testclient import TestClient
from postgres import postgres  # noqa: F401 - a fixture

import serving
from palate.model.model import load_model
from palate.serve.app import create_app
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.store import UserStore
from palate.training.train import train_run
from serving import ENCODERS, sharpen, train_small_recommender
from tiny import tiny_recipe

_number = count()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store_name(request, tmp_path):
    """Where to open the store: a path, or a URL."""
    if request.param == "sqlite":
        return tmp_path / "users.sqlite"
    return request.getfixturevalue("postgres").new_database(f"store{next(_number)}")


@pytest.fixture
def store(store_name):
    opened = UserStore(store_name)
    yield opened
    opened.close()


LIKE_TOKENS = "like-tokens"
"""Of a run's name: its soft prompts are kept as long as tokens."""


@pytest.fixture(scope="session")
def run_of(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    """A tiny run by kind of user encoder, trained on first use."""
    folder, made = tmp_path_factory.mktemp("served"), {}

    def trained(kind):
        if kind not in made:
            model = {
                "backbone": {"kind": "random-t5", "d_model": 32, "d_ff": 64, "num_heads": 2, "num_layers": 1},
                "user_encoder": ENCODERS[kind.removesuffix(LIKE_TOKENS).removesuffix("-") or "streaming"],
                "task_prompt": 2,
                "like_tokens": kind.endswith(LIKE_TOKENS),
            }
            recipe = tiny_recipe(
                tiny_data.path, tiny_sentence_encoder, folder / "cache", model=model, train={"max_steps": 2}
            )
            made[kind] = folder / kind
            train_run(recipe, made[kind])
            sharpen(made[kind])
        return made[kind]

    return trained


@pytest.fixture(scope="session")
def run(run_of):
    """A tiny run with a streaming user encoder."""
    return run_of("streaming")


@pytest.fixture(scope="session")
def recommender_run(tiny_data, tmp_path_factory):
    """The run of a recommender on the same tiny data."""
    return train_small_recommender(tiny_data.path, tmp_path_factory.mktemp("recommender") / "run")


@pytest.fixture(scope="session")
def events(tiny_data):
    """Eight events of a user, in the API's format."""
    (history,) = tiny_data.histories(tiny_data.user_ids[:1])
    columns = zip(history.item_ids, history.ratings, history.timestamps, strict=True)
    return [dict(zip(("item_id", "rating", "timestamp"), row, strict=True)) for row in columns][:8]


@pytest.fixture
def serve(run, tmp_path):
    """Start servers in this process, optionally with other settings."""
    opened = []

    def start(*, of=run, limits=None, **settings):
        content = {"store": str(tmp_path / "users.sqlite"), "limits": Limits(**(limits or {})), **settings}
        app = create_app(ServeSettings(run=of, **content))
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def server(serve):
    """A server in this process."""
    return serve()


@pytest.fixture
def listening(run, recommender_run, tmp_path):
    """Start servers of both models on free local ports, in threads; return their addresses."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            serving.listening(run, tmp_path / "users.sqlite", recommender=recommender_run, **settings)
        )


@pytest.fixture(scope="session")
def model(run):
    """The model behind the servers."""
    return load_model(run)
