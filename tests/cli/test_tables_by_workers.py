"""Tables for many users do not depend on the number of workers, even if some are killed."""

import multiprocessing
import os
import signal

import polars as pl
import pytest

from bookshop_commands import run, trained_recommender
from palate.answers import load, table
from palate.recommend import table as lists
from palate.system.engines import shard_engine


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A prepared bookshop with a trained recommender: the folder of the run."""
    settings = "texts: false, rounds: 1, rating_rank: 2, rating_iterations: 3, network_size: 0, ridge: 50"
    return trained_recommender(tmp_path_factory.mktemp("shop"), settings)


def test_lists_of_all_users_are_those_of_each(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "LISTS_A_PART", 40)
    out = tmp_path / "lists.parquet"
    made = run("recommend", shop, "--all", "-k", 3, "--out", out)
    assert made.exit_code == 0, made.output
    found = pl.read_parquet(out)
    assert found.schema == pl.Schema(lists.LIST_COLUMNS)
    shown = run("recommend", shop, "--users", "all", "-k", 3)
    asked = pl.read_ndjson(shown.stdout.encode()).explode("items").unnest("items")
    assert found.select("user_id", "item_id", "share").equals(asked.select("user_id", "item_id", "share"))
    assert found["place"].to_list() == [1, 2, 3] * (len(found) // 3)
    assert not list(tmp_path.glob("*.parts"))
    again = run("recommend", shop, "--all", "--out", out)
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)
    alone = run("recommend", shop, "--user", "reader-3", "--out", tmp_path / "one.parquet")
    assert (alone.exit_code, "a table needs --users FILE or --all" in alone.output) == (2, True)


def test_several_processes_write_the_same_lists_when_one_is_killed(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "LISTS_A_PART", 20)
    names = lists.loaded_recommender(shop.resolve(), None)[1].user_ids
    killed = []

    def progress(done, total):
        if not killed and (children := multiprocessing.active_children()):
            killed.append(children[0].pid)
            os.kill(children[0].pid, signal.SIGKILL)

    for workers, out in ((1, tmp_path / "one.parquet"), (2, tmp_path / "two.parquet")):
        with shard_engine("local", workers) as engine:
            lists.write_lists(shop, None, names, lists.ListSettings(k=3), out, engine, progress)
    assert killed
    assert pl.read_parquet(tmp_path / "one.parquet").equals(pl.read_parquet(tmp_path / "two.parquet"))


def test_several_processes_write_the_same_answers(shop, shipped, tmp_path, monkeypatch):
    monkeypatch.setattr("palate.runs.run.PACKAGED_FOLDER", shipped)
    monkeypatch.setattr(load, "missing_modules", lambda extra: ("gone",))
    load.question_matcher.cache_clear()
    monkeypatch.setattr(table, "A_PART", 4)
    users = tmp_path / "users.txt"
    users.write_text("\n".join(f"reader-{number}" for number in range(10)))
    questions = tmp_path / "questions.txt"
    questions.write_text("What should I recommend to this user?\n")
    asked = ["answers", shop, "--users", users, "--questions", questions, "--out"]
    assert run(*asked, tmp_path / "one.parquet").exit_code == 0
    assert run(*asked, tmp_path / "two.parquet", "--workers", 2).exit_code == 0
    assert pl.read_parquet(tmp_path / "one.parquet").equals(pl.read_parquet(tmp_path / "two.parquet"))
    load.question_matcher.cache_clear()
