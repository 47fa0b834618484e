"""A user store in SQLite, and in PostgreSQL where the slow tests run."""

from itertools import count

import pytest
from postgres import postgres  # noqa: F401 - a fixture

from palate.serve.store import UserStore

_number = count()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store_name(request, tmp_path):
    """What a store is opened by: a path, or a URL."""
    if request.param == "sqlite":
        return tmp_path / "users.sqlite"
    return request.getfixturevalue("postgres").new_database(f"store{next(_number)}")


@pytest.fixture
def store(store_name):
    opened = UserStore(store_name)
    yield opened
    opened.close()
