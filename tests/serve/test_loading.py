"""``palate store load``: loads each user exactly once, even if interrupted."""

import json
from dataclasses import replace

import polars as pl
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.errors import MismatchError
from palate.serve import loading
from palate.serve.loading import load_users
from palate.serve.store.changes import Event
from palate.serve.store.store import UserStore

YEAR_5138 = 10**11 - 1


def load(*arguments):
    return CliRunner().invoke(app, ["store", "load", *map(str, arguments)])


def histories(store, dataset):
    found = [store.history(user_id).history for user_id in dataset.user_ids]
    return [replace(one, event_ids=()) for one in found]


def test_every_user_has_the_history_of_the_dataset(store, tiny_data):
    loaded = load_users(tiny_data, store)
    assert (loaded.users, loaded.new, loaded.known) == (50, len(tiny_data.interactions), 0)
    assert histories(store, tiny_data) == tiny_data.histories(tiny_data.user_ids)
    again = load_users(tiny_data, store)
    assert (again.users, again.new, again.known) == (50, 0, len(tiny_data.interactions))


def test_a_load_that_was_interrupted_is_gone_on_with(store, tiny_data, monkeypatch):
    monkeypatch.setattr(loading, "AT_ONCE", 100)
    told = []

    def interrupt(done, total):
        told.append((done, total))
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_users(tiny_data, store, interrupt)
    loaded = load_users(tiny_data, store)
    assert 300 <= loaded.known < 400
    assert loaded.known == told[-1][0]
    assert loaded.known + loaded.new == told[-1][1]
    assert histories(store, tiny_data) == tiny_data.histories(tiny_data.user_ids)


def test_what_users_have_sent_meanwhile_stays(store, tiny_data):
    user_id = tiny_data.user_ids[0]
    store.append({user_id: [Event(tiny_data.item_ids[0], 1.0, 1_700_000_000, "own")]})
    load_users(tiny_data, store)
    assert store.history(user_id, newest=1).history.event_ids == ["own"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Purchases of which some are repeated, even at the same time."""
    folder = tmp_path_factory.mktemp("sequences")
    lines = [f"u{user} tea milk tea tea item{user % 3}" for user in range(12)]
    (folder / "bought.txt").write_text("\n".join(lines))
    return prepare(folder / "bought.txt", folder / "data", own=OwnData(format="sequences"))


def test_each_of_several_purchases_is_loaded_once(store_name, shop):
    store = UserStore(store_name, repeats=True)
    for known in (0, 60):
        assert load_users(shop, store).known == known
    assert shop.info.repeats
    assert histories(store, shop) == shop.histories(shop.user_ids)
    assert list(store.history("u4").history.item_ids) == ["tea", "milk", "tea", "tea", "item1"]
    store.close()


def test_users_of_another_catalogue_are_not_mixed(store, tiny_data, shop):
    store.append({"ann": [Event("none of theirs", 3.0)]})
    with pytest.raises(
        MismatchError, match="does not have 1 item of its events, such as 'none of theirs'; name"
    ):
        load_users(tiny_data, store)
    store.delete_user("ann")
    store.append({"ann": [Event("tea", 3.0)]})
    with pytest.raises(MismatchError, match="it holds the rating 3, expected one of 1; name another --store"):
        load_users(shop, store)
    assert store.user_ids("", 9) == ["ann"]


def test_the_command_fills_the_store_that_a_run_is_served_with(recommender_run, tiny_data, shop, tmp_path):
    done = load(tiny_data.path, "--run", recommender_run)
    assert done.exit_code == 0, done.output
    events = len(tiny_data.interactions)
    assert done.stdout.startswith(
        f"50 users: {events:,} new events, 0 that were already stored, in sqlite://"
    )
    place = recommender_run / "users.sqlite"
    again = load(tiny_data.path, "--store", place)
    assert f"0 new events, {events:,} that" in again.stdout
    for suffix in ("", "-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)


def test_what_cannot_be_loaded_is_refused_before_anything_is_written(
    run, recommender_run, tiny_data, shop, tmp_path
):
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for name in ("dataset.json", "interactions.parquet", "users.parquet"):
        (renamed / name).write_bytes((tiny_data.path / name).read_bytes())
    items = tiny_data.items.clone()
    items[0, "title"] = "Another title"
    items.write_parquet(renamed / "items.parquet")
    assert load_dataset(renamed).items["title"][0] == "Another title"
    values = json.loads((tiny_data.path / "dataset.json").read_text())
    scaled = tmp_path / "scaled"
    scaled.mkdir()
    for name in ("items.parquet", "interactions.parquet", "users.parquet"):
        (scaled / name).write_bytes((tiny_data.path / name).read_bytes())
    values["rating_values"] = [value * 10 for value in values["rating_values"]]
    (scaled / "dataset.json").write_text(json.dumps(values))
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    for name in ("dataset.json", "items.parquet", "users.parquet"):
        (ahead / name).write_bytes((tiny_data.path / name).read_bytes())
    events = pl.read_parquet(tiny_data.path / "interactions.parquet")
    second = int(tiny_data.interactions.lengths[0])
    events[second, "timestamp"] = YEAR_5138
    events.write_parquet(ahead / "interactions.parquet")
    item = tiny_data.item_ids[events[second, "item_index"]]
    store = tmp_path / "users.sqlite"
    for arguments, said in (
        ((shop.path, "--run", run), "does not know 5 items of it, such as"),
        ((shop.path, "--run", recommender_run), "does not know 5 items of it, such as"),
        ((renamed, "--run", recommender_run), "'Another title' here and"),
        ((scaled, "--run", run), "the rating 10 is not on its scale 1, 2, 3, 4, 5"),
        (
            (ahead,),
            f"interactions.parquet: user {tiny_data.user_ids[1]!r}, item {item!r}: the time {YEAR_5138} is in the "
            "future (1 event in all), expected at most",
        ),
        ((tmp_path / "none",), "dataset.json: the file is missing"),
    ):
        refused = load(*arguments, "--store", store)
        assert (refused.exit_code, len(refused.stderr.strip().splitlines())) == (2, 1), refused.stderr
        assert said in refused.stderr
    assert not store.exists()
    assert "give the served run with --run, or the store with --store" in load(tiny_data.path).stderr
