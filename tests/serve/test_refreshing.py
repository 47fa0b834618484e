"""docs/refreshing.md end to end: a store becomes the next model's data, which is swapped in under load."""

import re
import threading
import time
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import pytest

import palate
from palate.config.recipe import ModelSettings
from palate.errors import MismatchError
from palate.export.noted import exports_with
from palate.model.model import load_model
from palate.serve.loading import load_users
from palate.serve.saving import EVENTS, ITEMS, save_users
from palate.serve.settings import Limits
from palate.serve.store.changes import Event
from palate.serve.store.store import UserStore
from palate.training.train import train_run
from serving import listening
from tiny import tiny_recipe, unbound_model

LIMITS = Limits(panel_changed=1.0, panel_f1_loss=1.0)
NEW = {"item_id": "n1", "title": "The Long Way (2024)", "categories": ["Drama", "Travel"]}
"""An item of a category that the first data does not have."""


@pytest.fixture
def loaded(tiny_data, tmp_path):
    store = UserStore(tmp_path / "users.sqlite")
    load_users(tiny_data, store)
    yield store
    store.close()


def test_a_store_is_saved_as_files_that_make_its_dataset_again(loaded, tiny_data, tmp_path):
    gone, kept = tiny_data.user_ids[:2]
    loaded.delete_user(gone)
    loaded.add_items([palate.Item("n1", "The Long Way", ("Drama", "Travel"), None, 2024)])
    loaded.append({kept: [Event("n1", 5.0, 10**9)]})
    saved = save_users(loaded, tiny_data, tmp_path / "files")
    assert (saved.users, saved.items) == (len(tiny_data.user_ids) - 1, len(tiny_data.item_ids) + 1)
    made = prepared(tmp_path)
    assert made.histories([kept])[0].item_ids[-1] == "n1"
    assert "Travel" in made.categories
    assert gone not in made.user_ids
    others = tiny_data.user_ids[2:]
    for one, other in zip(tiny_data.histories(others), made.histories(others), strict=True):
        assert (list(one.item_ids), list(one.ratings), list(one.timestamps)) == (
            list(other.item_ids),
            list(other.ratings),
            list(other.timestamps),
        )
    (row,) = (one for one in made.items.iter_rows(named=True) if one["item_id"] == "n1")
    assert (row["title"], row["year"], row["categories"]) == ("The Long Way", 2024, ["Drama", "Travel"])


def prepared(folder):
    files = folder / "files"
    return palate.prepare(
        [str(files / EVENTS)],
        items=str(files / ITEMS),
        out=folder / "next",
        min_ratings=1,
        dev_share=0.2,
        test_share=0.2,
    )


def trained(start, data, run, cache):
    settings = {"max_steps": 4, "eval_steps": 2, "auxiliary_weight": 1.0}
    recipe = tiny_recipe(data.path, cache / "none", cache / "cache", train=settings)
    evaluate = recipe.evaluate.model_copy(update={"max_new_tokens": None})
    model = ModelSettings(start=str(start))
    train_run(recipe.model_copy(update={"evaluate": evaluate, "model": model}), run, device="cpu")
    return run


class Visitors:
    """Threads that send events and ask about the users that they have sent them of."""

    def __init__(self, url, user_ids, item_ids, at_once=4):
        self.url, self.user_ids, self.item_ids = url, user_ids, item_ids
        self.acknowledged, self.answered, self.wrong, self.times = {}, [], [], []
        self._numbers, self._done = count(), threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(one,)) for one in range(at_once)]

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for one in self._threads:
            one.join()

    def _visit(self, number):
        mine = self.user_ids[number :: len(self._threads)]
        with httpx.Client(base_url=self.url, timeout=120) as client:
            while not self._done.is_set():
                turn = next(self._numbers)
                user_id = mine[turn % len(mine)]
                event = {"item_id": self.item_ids[turn % len(self.item_ids)], "rating": 1 + turn % 5}
                sent = client.post(f"/users/{user_id}/events", json={**event, "event_id": f"v{turn}"})
                if sent.status_code != 200:
                    self.wrong.append(sent.text)
                    continue
                version = sent.json()["version"]
                self.acknowledged.setdefault(user_id, []).append(f"v{turn}")
                began = time.perf_counter()
                asked = client.post("/answers", json={"questions": [{"user_id": user_id}]})
                self.times.append((began, time.perf_counter() - began))
                if asked.status_code != 200:
                    self.wrong.append(asked.text)
                    continue
                answer = asked.json()["answers"][0]
                self.answered.append(asked.json()["model"])
                if answer["version"] < version:
                    self.wrong.append(f"{user_id}: {answer['version']} after {version}")


def show(text):
    print(text)  # noqa: T201 - figures of the slow variant


def wait_for(url, serving):
    while (state := httpx.get(f"{url}/upgrade", timeout=120).json())["serving"] != serving:
        assert state["phase"] != "failed", state
        time.sleep(0.05)
    return state


@pytest.mark.slow
def test_items_categories_and_users_of_a_week_are_known_to_the_next_model(tiny_data, tmp_path):
    start = tmp_path / "start"
    unbound_model(grammar=True, max_new_tokens=48).save_pretrained(start)
    last = trained(start, tiny_data, tmp_path / "last", tmp_path)
    path = tmp_path / "users.sqlite"
    store = UserStore(path)
    load_users(tiny_data, store)
    store.close()
    gone = tiny_data.user_ids[0]
    old_items = tiny_data.item_ids[:6]
    with listening(last, path) as url:
        httpx.post(f"{url}/items", json={"items": [NEW]}).raise_for_status()
        for user_id in ("new-1", "new-2", gone):
            for item_id in ("n1", *old_items):
                event = {"item_id": item_id, "rating": 5 if item_id == "n1" else 2}
                httpx.post(f"{url}/users/{user_id}/events", json=event).raise_for_status()
        palate.export_prompts(last, tiny_data.histories([gone]), tmp_path / "prompts", device="cpu")
        gone_from = httpx.delete(f"{url}/users/{gone}", timeout=60).json()
    assert gone_from["exports"] == [str(tmp_path / "prompts")]
    assert exports_with(last, gone) == []
    store = UserStore(path)
    save_users(store, tiny_data, tmp_path / "files")
    store.close()
    data = prepared(tmp_path)
    assert {"new-1", "new-2"} < set(data.user_ids)
    assert gone not in data.user_ids
    after = trained(last, data, tmp_path / "after", tmp_path)
    model = load_model(after, device="cpu")
    assert "Travel" in model.settings.categories
    assert "n1" in model.table.item_ids
    assert model.summary.digest != load_model(last, device="cpu").summary.digest
    users = [one for one in data.user_ids if one.startswith("new")] + list(data.user_ids[:6])
    with (
        listening(after, path, previous=last, limits=LIMITS) as url,
        Visitors(url, users, ["n1", *old_items], at_once=2) as visitors,
    ):
        state = wait_for(url, "new")
        while len(set(visitors.answered)) < 2 and visitors.answered[-1:] != [state["new"]]:
            time.sleep(0.05)
        httpx.post(f"{url}/upgrade", json={"serve": "old"}, timeout=60).raise_for_status()
        asked = {"questions": [{"user_id": "new-1"}]}
        back = httpx.post(f"{url}/answers", json=asked, timeout=60).json()
        assert back["model"] == state["old"], "who has rated the new item is answered by the old model, too"
        httpx.post(f"{url}/upgrade", json={"serve": "new"}, timeout=60).raise_for_status()
    assert visitors.wrong == []
    assert_nothing_is_lost(path, visitors)


@pytest.mark.slow
def test_an_upgrade_under_load_loses_nothing_and_answers_nothing_stale(run_of, tiny_data, tmp_path):
    old, new = run_of("streaming"), run_of("recency")
    path = tmp_path / "users.sqlite"
    store = UserStore(path)
    load_users(tiny_data, store)
    store.close()
    with (
        listening(new, path, previous=old, limits=LIMITS) as url,
        Visitors(url, list(tiny_data.user_ids), tiny_data.item_ids[:20]) as visitors,
    ):
        began = time.perf_counter()
        state = wait_for(url, "new")
        switched = time.perf_counter()
        for which in ("old", "new"):
            answered = len(visitors.answered)
            httpx.post(f"{url}/upgrade", json={"serve": which}, timeout=60).raise_for_status()
            while len(visitors.answered) < answered + 20:
                time.sleep(0.01)
    assert visitors.wrong == []
    assert set(visitors.answered) == {state["old"], state["new"]}
    assert state["prepared"] == state["users"]
    events = assert_nothing_is_lost(path, visitors)
    during = [1000 * taken for at, taken in visitors.times if at < switched]
    after = [1000 * taken for at, taken in visitors.times if at >= switched]
    for name, times in (("while users were prepared", during), ("after the change", after)):
        p50, p99 = np.percentile(times, [50, 99]) if times else (0.0, 0.0)
        show(f"answers {name}: {len(times)}, p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    show(f"{state['users']} users prepared in {switched - began:.1f} s; {events} events, none lost")


def assert_nothing_is_lost(path, visitors):
    store = UserStore(path)
    events = 0
    with store.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT user_id, event_id FROM events JOIN users ON key = user_key")
        there = set(map(tuple, rows))
    for user_id, ids in visitors.acknowledged.items():
        assert {(user_id, one) for one in ids} <= there
        events += len(ids)
    store.close()
    return events


def test_the_commands_of_the_document_are_real(tiny_data):
    from typer.testing import CliRunner

    from palate.cli.app import app

    text = (Path(__file__).parents[2] / "docs" / "refreshing.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for line in block.strip().split("\n"):
        words = line.split()
        names = words[1:3] if words[1] == "store" else words[1:2]
        told = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"}).output
        assert all(word in told for word in words if word.startswith("--")), line


def test_weights_of_several_types_of_events_are_not_saved_as_ratings(tmp_path):
    from types import SimpleNamespace

    from palate.data.event_types import EventTypes

    store = UserStore(tmp_path / "users.sqlite")
    typed = SimpleNamespace(info=SimpleNamespace(unrated=EventTypes(weights={"view": 1.0})), path="data")
    with pytest.raises(MismatchError, match="the weights of events, but not their types"):
        save_users(store, typed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    store.close()
