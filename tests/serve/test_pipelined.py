"""PostgreSQL: arrays as text, look-ups by index, and connections that are cut."""

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from palate.serve.store.changes import Event
from palate.serve.store.pipelined import CURRENT, KNOWN
from palate.serve.store.store import UserStore
from palate.serve.store.unnest import array_literal

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
arrays = st.one_of(
    st.tuples(st.just("text"), st.lists(texts | st.sampled_from(["NULL", "", '{"a",b}', "\\N"]) | st.none())),
    st.tuples(st.just("bigint"), st.lists(st.integers(-(2**63), 2**63 - 1) | st.none())),
    st.tuples(st.just("bytea"), st.lists(st.binary() | st.none())),
    st.tuples(st.just("float8"), st.lists(st.floats(allow_nan=False) | st.none())),
)


@pytest.fixture(scope="module")
def store(postgres):
    found = UserStore(postgres.new_database("pipelined"))
    yield found
    found.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=arrays)
def test_an_array_is_read_as_it_was(store, some):
    kind, values = some
    with store.database.reading() as connection:
        driver = connection.connection.driver_connection
        assert driver.execute(f"SELECT %s::{kind}[]", [array_literal(values)]).fetchone() == (values,)


def test_many_events_are_looked_up_by_index_and_never_by_reading_the_whole_table(store):
    names = [f"user-{number}" for number in range(20)]
    store.append({name: [Event(str(at), 3.0, at, f"id-{at}") for at in range(100)] for name in names})
    with store.database.writing() as connection:
        connection.execute(text("ANALYZE"))
    pairs = [(name, str(at)) for name in names for at in range(100)]
    asked = {"names": names, "of": [name for name, _ in pairs]}
    with store.database.reading() as connection:
        driver = connection.connection.driver_connection
        for sql, ids in ((CURRENT, [at for _, at in pairs]), (KNOWN, [f"id-{at}" for _, at in pairs])):
            arrays = {name: array_literal(values) for name, values in {**asked, "ids": ids}.items()}
            assert len(driver.execute(sql, arrays).fetchall()) == 2_000
            plan = "\n".join(line for (line,) in driver.execute(f"EXPLAIN {sql}", arrays))
            assert "Index Scan using events_by" in plan, plan
            assert "Scan on events" not in plan, plan


def test_a_connection_that_was_cut_a_moment_ago_costs_no_request(store, postgres):
    cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'pipelined'"
    store.append({"ann": [Event("a", 3.0, 1)]})
    with psycopg.connect(
        host="127.0.0.1", port=postgres.port, user="palate", dbname="postgres", autocommit=True
    ) as other:
        for number in range(2, 5):
            assert set(other.execute(cut).fetchall()) == {(True,)}
            assert store.append({"ann": [Event("a", 3.0, number)]})["ann"].version == number
            assert set(other.execute(cut).fetchall()) == {(True,)}
            assert store.history("ann").version == number
