"""The user store: histories, ids, and deletion."""

import random
import threading
import time
import uuid
from collections import Counter

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, text

from palate.errors import ConflictError, DataError, StoreError, StoreFullError, UnknownUserError
from palate.schema import Item
from palate.serve.store import database
from palate.serve.store.changes import Event
from palate.serve.store.database import Database, store_url
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import UserStore
from palate.serve.store.tables import metadata
from serving import bytes_of

SOME = [Event("a", 3.0, 20, "first"), Event("b", 4.0, 10, "second"), Event("c", 5.0, 20, "third")]


def listed(history):
    return list(zip(history.item_ids, history.ratings, history.timestamps, strict=True))


def test_events_that_come_out_of_order_stand_in_the_order_of_time(store):
    assert store.append({"ann": SOME})["ann"].version == 3
    found = store.history("ann")
    assert listed(found.history) == [("b", 4.0, 10), ("a", 3.0, 20), ("c", 5.0, 20)]
    assert found.history.event_ids == ["second", "first", "third"]
    assert found.version == 3


def test_a_history_is_read_in_pages_from_its_end(store):
    store.append({"ann": [Event(str(number), 3.0, number) for number in range(10)]})
    pages = [store.history("ann", newest=4, skip=skip).history.timestamps for skip in (0, 4, 8, 12)]
    assert pages == [[6, 7, 8, 9], [2, 3, 4, 5], [0, 1], []]


def test_events_without_a_time_came_now_and_without_an_id_are_always_new(store, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)
    for _ in range(2):
        store.append({"ann": [Event("a", 3.0)]})
    assert store.history("ann").version == 2
    assert listed(store.history("ann").history) == [("a", 3.0, 1_700_000_000)]


def test_an_event_that_is_sent_again_changes_nothing(store, monkeypatch):
    store.append({"ann": SOME})
    before = store.history("ann")
    again = store.append({"ann": [*SOME, Event("d", 1.0, 30, "fourth"), *SOME]})["ann"]
    assert (again.version, again.new, again.known) == (4, 1, 6)
    assert store.history("ann", skip=1).history.event_ids == before.history.event_ids
    monkeypatch.setattr("time.time", lambda: 1_800_000_000)
    store.append({"ann": [Event("e", 1.0, None, "fifth")]})
    monkeypatch.setattr("time.time", lambda: 1_900_000_000)
    assert store.append({"ann": [Event("e", 1.0, None, "fifth")]})["ann"].known == 1


@pytest.mark.parametrize(
    "other", [Event("z", 3.0, 20, "first"), Event("a", 3.5, 20, "first"), Event("a", 3.0, 21, "first")]
)
def test_an_id_that_stands_for_another_event_is_refused_with_all_that_came_with_it(store, other):
    store.append({"ann": SOME})
    with pytest.raises(
        ConflictError, match="event 'first' of user 'ann' is already stored with another item"
    ):
        store.append({"aaron": [Event("x", 1.0, 1)], "ann": [Event("x", 1.0, 1), other]})
    assert store.history("ann").version == 3
    with pytest.raises(UnknownUserError, match="no user 'aaron' in the store"):
        store.history("aaron")


def test_ids_belong_to_their_user(store):
    store.append({"ann": SOME, "bob": [Event("z", 1.0, 1, "first")]})
    assert listed(store.history("bob").history) == [("z", 1.0, 1)]


def test_the_last_rating_of_an_item_stands_alone(store):
    store.append({"ann": [Event("a", 3.0, 20), Event("a", 4.0, 20), Event("a", 1.0, 10)]})
    assert listed(store.history("ann").history) == [("a", 4.0, 20)]
    store.append({"ann": [Event("a", 2.0, 30)]})
    assert listed(store.history("ann").history) == [("a", 2.0, 30)]
    assert store.history("ann").version == 4


sent_events = st.lists(
    st.lists(
        st.builds(
            Event,
            st.sampled_from("abcd"),
            st.sampled_from([1.0, 2.5, 5.0]),
            st.integers(0, 5),
            st.uuids().map(str),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=sent_events, since=st.integers(0, 6))
def test_changes_make_the_new_history_from_the_old(store, batches, since):
    user_id = str(uuid.uuid4())
    states = [(0, Counter())]
    for batch in batches:
        version = store.append({user_id: batch})[user_id].version
        states.append((version, Counter(listed(store.history(user_id).history))))
    arrived = [event for batch in batches for event in batch]
    last = {event.item_id: event for event in sorted(arrived, key=lambda event: event.timestamp)}
    in_order = [(event.item_id, event.rating, event.timestamp) for event in last.values()]
    found = store.history(user_id)
    assert Counter(in_order) == states[-1][1]
    assert found.history.timestamps == sorted(found.history.timestamps)
    version, old = states[min(since, len(states) - 1)]
    changes = store.changes(found.key, version)
    assert changes.version == found.version
    assert not Counter(listed(changes.removed)) - old
    assert old - Counter(listed(changes.removed)) + Counter(listed(changes.added)) == states[-1][1]


def test_what_was_made_of_a_history_is_kept_with_its_version(store):
    store.append({"ann": SOME})
    key, version, kept, _ = store.encoded("ann", "model")
    assert (version, kept) == (3, None)
    store.keep(key, "model", Encoded(3, b"prompt", b"state"))
    store.keep(key, "model", Encoded(2, b"older"))
    store.keep(key, "another", Encoded(1, b"another's"))
    assert store.encoded("ann", "model") == (key, 3, Encoded(3, b"prompt", b"state"), 0)
    store.keep(key, "model", Encoded(4, b"newer"))
    assert store.encoded("ann", "model")[2] == Encoded(4, b"newer")


def test_nothing_is_kept_of_a_user_who_has_gone(store):
    store.append({"ann": SOME})
    key, *_ = store.encoded("ann", "model")
    assert store.delete_user("ann") == 3
    store.keep(key, "model", Encoded(3, b"prompt"))
    store.append({"ann": SOME[:1]})
    store.keep(key, "model", Encoded(9, b"prompt"))
    new_key, version, kept, _ = store.encoded("ann", "model")
    assert (version, kept) == (1, None)
    assert new_key != key
    with pytest.raises(UnknownUserError):
        store.changes(key, 0)


def test_deleting_nobody_deletes_nothing(store):
    store.append({"ann": SOME})
    assert store.delete_user("bob") == 0
    assert store.history("ann").version == 3


def test_the_files_hold_nothing_of_deleted_users(tmp_path):
    """With many users whose rows move between pages, so that copies would be left in the gaps."""
    store = UserStore(tmp_path / "users.sqlite")
    draw = random.Random(1)
    names = [f"user-{number:02d}-of-twenty" for number in range(20)]
    for step in range(300):
        name = draw.choice(names)
        many = [
            Event(f"{name}-{draw.randrange(60)}-{'x' * draw.randrange(80)}", 3.0, draw.randrange(10**6))
            for _ in range(draw.choice([1, 1, 1, 30]))
        ]
        store.append({name: many})
        if step % 10 == 0:
            key, version, *_ = store.encoded(name, "model")
            made = f"{name}-prompt".encode() * draw.randrange(1, 3000)
            store.keep(key, "model", Encoded(version, made, made))
    kept = names[:2]
    before = [store.history(name) for name in kept]
    for name in names[2:]:
        assert name.encode() in bytes_of(tmp_path)
        store.delete_user(name)
        assert name.encode() not in bytes_of(tmp_path)
    assert [store.history(name) for name in kept] == before
    assert (tmp_path / "users.sqlite-wal").stat().st_size == 0


def test_deletions_that_come_together_share_the_scrubbing(tmp_path, monkeypatch):
    store = UserStore(tmp_path / "users.sqlite")
    store.append(dict.fromkeys("abcdef", SOME))
    written, at_once = [], threading.Barrier(7)
    anew, begun, go_on = Database._rewrite, threading.Event(), threading.Event()

    def slowly(self):
        written.append(1)
        begun.set()
        go_on.wait(10)
        anew(self)

    monkeypatch.setattr(Database, "_rewrite", slowly)

    def delete(name):
        at_once.wait()
        store.delete_user(name)

    threads = [threading.Thread(target=delete, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    at_once.wait()
    begun.wait(10)
    while _count(store, "users"):
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(written) <= 3
    assert b"second" not in bytes_of(tmp_path)


def _count(store, table):
    with store.database.reading() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_items_are_kept_in_order_and_once(store):
    first = Item("new-1", "Alien", ("Horror", "Sci-Fi"), "A ship.", 1979)
    second = Item("new-2", "Amélie \N{SNOWMAN}")
    store.add_items([first])
    found, number, _ = store.items()
    assert found == [first]
    store.add_items([second, first, second])
    assert store.items(number) == ([second], store.items().last, 0)
    with pytest.raises(ConflictError, match="item 'new-1' is already known with other texts"):
        store.add_items([Item("new-3", "x"), Item("new-1", "Aliens")])
    assert len(store.items()[0]) == 2


def test_writers_at_the_same_time_lose_and_double_nothing(store):
    def write(worker):
        for number in range(10):
            store.append(
                {"ann": [Event(f"{worker}-{number}", 3.0, number), Event("s", 1.0, 1, f"s{number}")]}
            )

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.history("ann").version == 4 * 10 + 10
    assert len(store.history("ann").history) == 4 * 10 + 1


def test_looking_up_never_reads_the_whole_table(tmp_path):
    store, plans = UserStore(tmp_path / "users.sqlite"), []

    @event.listens_for(store.database.engine, "before_cursor_execute")
    def explain(connection, cursor, statement, parameters, context, many):
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            given = parameters[0] if many else parameters
            plans.extend(
                row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
            )

    store.append({"ann": SOME, "bob": SOME})
    store.append({"ann": [Event("a", 1.0, 99, "again")]})
    key, version, *_ = store.encoded("ann", "model")
    store.changes(key, version - 1)
    store.history("ann", newest=2)
    assert len(plans) > 10
    one_row = {"SCAN CONSTANT ROW", "SCAN catalogue"}
    assert not [plan for plan in plans if plan.startswith("SCAN") and plan not in one_row], plans
    assert not [
        plan for plan in plans if "TEMP B-TREE" in plan and "LAST" not in plan and "ORDER" not in plan
    ]


def test_the_tables_are_those_that_the_migrations_make(store):
    with store.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_store_is_opened_again_with_all_it_holds(store_name):
    first = UserStore(store_name)
    first.append({"ann": SOME})
    first.close()
    again = UserStore(store_name)
    assert again.history("ann").version == 3
    again.close()


def test_a_store_of_a_newer_palate_is_refused(store_name):
    store = UserStore(store_name)
    with store.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '999'"))
    store.close()
    with pytest.raises(DataError, match="schema version '999', which this version of palate does not know"):
        UserStore(store_name)


def test_another_database_is_left_alone(store_name):
    engine = create_engine(store_url(store_name))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoices (number INTEGER)"))
    with pytest.raises(DataError, match=r"holds other tables \(invoices\); name an empty one"):
        UserStore(store_name)
    engine.dispose()


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("my notes, which are long enough for a header" * 50)
    with pytest.raises(DataError, match=r"notes\.txt: not an SQLite database; name another file"):
        UserStore(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text().startswith("my notes")


@pytest.mark.parametrize(
    "name", ["mysql://x@y/z", "sqlite://", "sqlite:///:memory:", "what://", "://", "postgres://x"]
)
def test_only_sqlite_and_postgresql_are_stores(name):
    with pytest.raises(DataError, match="invalid store, expected the path of an SQLite file"):
        store_url(name)


def test_a_store_needs_its_folder(tmp_path):
    with pytest.raises(DataError, match=r"the store cannot be created \(no such folder\)"):
        UserStore(tmp_path / "gone" / "users.sqlite")


def test_nobody_else_may_read_the_files(tmp_path):
    store = UserStore(tmp_path / "users.sqlite")
    store.append({"ann": SOME})
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "users.sqlite": 0o600,
        "users.sqlite-wal": 0o600,
        "users.sqlite-shm": 0o600,
    }


def test_a_password_is_not_said():
    assert "secret" not in str(store_url("postgresql://me:secret@host/palate"))
    with pytest.raises(StoreError) as caught:
        UserStore("postgresql://me:secret@127.0.0.1:1/palate")
    assert "secret" not in str(caught.value)
    assert "is not available now" in str(caught.value)


def test_a_full_disk_keeps_what_was_there(tmp_path):
    store = UserStore(tmp_path / "users.sqlite")
    store.append({"ann": SOME})
    pages = [0]

    @event.listens_for(store.database.engine, "checkout")
    def limit(connection, record, proxy):
        connection.execute(f"PRAGMA max_page_count = {pages[0] or 2**30}")

    pages[0] = 1  # it becomes as many as there are
    with pytest.raises(StoreFullError, match="the disk is full; free space and repeat the request"):
        store.append({"ann": [Event(f"{number}", 1.0, 1, f"id-{number}") for number in range(2000)]})
    assert store.history("ann").version == 3
    pages[0] = 0
    assert store.append({"ann": [Event("d", 1.0, 1)]})["ann"].version == 4


def test_a_store_that_others_hold_is_busy_and_then_free(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    store, other = UserStore(tmp_path / "users.sqlite"), UserStore(tmp_path / "users.sqlite")
    with other.database.writing(), pytest.raises(StoreError, match=r"database is locked\); try again"):
        store.append({"ann": SOME})
    assert store.append({"ann": SOME})["ann"].new == 3


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_refused(postgres, encoding):
    with pytest.raises(DataError, match=f"encoding is {encoding}.*expected UTF8.*createdb -E UTF8"):
        UserStore(postgres.new_database(encoding.lower(), encoding))


@pytest.mark.slow
def test_a_database_goes_away_and_comes_back(postgres):
    store = UserStore(postgres.new_database("away"))
    store.append({"ann": SOME})
    postgres.stop()
    try:
        for ask in (store.check, lambda: store.history("ann"), lambda: store.append({"ann": SOME})):
            with pytest.raises(StoreError, match="is not available now"):
                ask()
    finally:
        postgres.start()
    assert store.append({"ann": SOME})["ann"].known == 3
    store.close()


def test_events_without_a_time_count_in_the_order_in_which_they_come_though_the_clock_goes_back(
    store, monkeypatch
):
    now = 1_700_000_000
    monkeypatch.setattr("time.time", lambda: now)
    store.append({"ann": [Event("a", 3.0), Event("b", 3.0)]})
    now -= 3_600
    store.append({"ann": [Event("a", 5.0)]})
    store.append({"ann": [Event("a", 1.0), Event("a", 2.0)]})
    assert dict(zip(*ratings_of(store), strict=True)) == {"b": 3.0, "a": 2.0}


def test_a_time_in_the_far_future_is_refused_and_nothing_of_the_request_is_kept(store, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_700_000_000)
    store.append({"ann": [Event("a", 3.0, 1_700_000_000 + 86_400)]})
    with pytest.raises(DataError, match=r"event 'x' of item 'c': its time 1099511627776 is in the future"):
        store.append({"ann": [Event("b", 3.0, 5), Event("c", 3.0, 2**40, "x")]})
    assert store.history("ann").history.item_ids == ["a"]


def test_ids_are_listed_by_a_prefix_whose_case_matters(store):
    store.append(dict.fromkeys(["Ann", "ann", "anna", "a%", "a_", "é", "bob"], SOME))
    assert store.user_ids("an", 10) == ["ann", "anna"]
    assert store.user_ids("A", 10) == ["Ann"]
    assert store.user_ids("a_", 10) == ["a_"]
    assert store.user_ids("é", 10) == ["é"]
    assert len(store.user_ids("", 10)) == 7


def test_only_deletions_that_took_something_write_the_file_anew(tmp_path, monkeypatch):
    store, written, anew = UserStore(tmp_path / "users.sqlite"), [], Database._rewrite
    monkeypatch.setattr(Database, "_rewrite", lambda self: written.append(1) or anew(self))
    store.append({"ann": SOME, "bob": SOME})
    store.delete_user("nobody")
    store.delete_events("ann", ["no such event"])
    assert not written
    store.delete_user("ann")
    store.delete_user("ann")
    assert written == [1]


def test_a_deletion_that_was_interrupted_is_completed_by_the_next_one(tmp_path, monkeypatch):
    store = UserStore(tmp_path / "users.sqlite")
    store.append({"a-long-name-of-ann": SOME, "bob": SOME})
    monkeypatch.setattr(Database, "scrub", lambda self: None)
    store.delete_user("a-long-name-of-ann")
    store.close()
    monkeypatch.undo()
    again = UserStore(tmp_path / "users.sqlite")
    again.delete_user("a-long-name-of-ann")
    assert b"a-long-name-of-ann" not in bytes_of(tmp_path)


def test_a_store_whose_file_was_removed_or_replaced_takes_no_more_events(tmp_path):
    path = tmp_path / "users.sqlite"
    store = UserStore(path)
    store.append({"ann": SOME})
    path.unlink()
    for ask in (store.check, lambda: store.append({"ann": [Event("d", 1.0)]})):
        with pytest.raises(StoreError, match="was moved or replaced; restart the server"):
            ask()
    UserStore(path).close()
    with pytest.raises(StoreError, match="was moved or replaced"):
        store.check()


def ratings_of(store):
    history = store.history("ann").history
    return history.item_ids, history.ratings
