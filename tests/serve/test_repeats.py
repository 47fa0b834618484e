"""Repeated purchases: the store keeps each, and states count each, if the data does."""

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from palate.serve.store.changes import Event
from palate.serve.store.database import store_url
from palate.serve.store.store import UserStore

BOUGHT = [
    Event("tea", 1.0, 10, "first"),
    Event("milk", 1.0, 20, "second"),
    Event("tea", 1.0, 30, "third"),
    Event("tea", 1.0, 30, "fourth"),
]


@pytest.fixture
def repeating(store_name):
    opened = UserStore(store_name, repeats=True)
    yield opened
    opened.close()


def ids(found):
    return list(found.event_ids)


def test_every_purchase_stands_in_the_history(repeating):
    repeating.append({"ann": BOUGHT})
    assert ids(repeating.history("ann").history) == ["first", "second", "third", "fourth"]
    assert ids(repeating.history("ann", newest=2, skip=1).history) == ["second", "third"]
    assert repeating.append({"ann": BOUGHT})["ann"].known == 4


def test_a_later_purchase_takes_nothing_away(repeating):
    repeating.append({"ann": BOUGHT[:2]})
    key = repeating.history("ann").key
    repeating.append({"ann": BOUGHT[2:]})
    changes = repeating.changes(key, 2)
    assert (ids(changes.added), ids(changes.removed), changes.version) == (["third", "fourth"], [], 4)


def test_one_of_several_purchases_is_deleted_and_an_item_with_all_of_them(repeating):
    repeating.append({"ann": BOUGHT})
    repeating.delete_events("ann", event_ids=["third"])
    assert ids(repeating.history("ann").history) == ["first", "second", "fourth"]
    repeating.delete_events("ann", item_ids=["tea"])
    assert ids(repeating.history("ann").history) == ["second"]


def test_one_store_is_read_as_each_model_of_it_needs(store_name):
    first, second = UserStore(store_name), UserStore(store_name, repeats=True)
    first.append({"ann": BOUGHT})
    second.append({"bob": BOUGHT})
    for user in ("ann", "bob"):
        assert ids(first.history(user).history) == ["second", "fourth"]
        assert ids(second.history(user).history) == ["first", "second", "third", "fourth"]
    first.close()
    second.close()


def test_purchases_that_an_earlier_version_replaced_count_again_after_the_upgrade(store_name, monkeypatch):
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, head: upgrade(config, "2"))
    UserStore(store_name).close()
    monkeypatch.undo()
    engine = create_engine(store_url(store_name))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id, version) VALUES ('ann', 2)"))
        for version, event_id, superseded in ((1, "first", "2"), (2, "second", "NULL")):
            row = (
                f"INSERT INTO events SELECT key, :version, :event_id, 'tea', 1.0, 5, {superseded} FROM users"
            )
            connection.execute(text(row), {"version": version, "event_id": event_id})
    engine.dispose()
    merged, kept = UserStore(store_name), UserStore(store_name, repeats=True)
    assert ids(merged.history("ann").history) == ["second"]
    assert ids(kept.history("ann").history) == ["first", "second"]
    assert ids(kept.changes(kept.history("ann").key, 0).added) == ["first", "second"]
    merged.close()
    kept.close()
