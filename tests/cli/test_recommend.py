"""``palate train`` with a recommender's recipe, and ``palate recommend``, ``rate`` and ``choose``."""

import json

import pytest
from typer.testing import CliRunner

from bookshop import books, ratings, write_rows
from palate.cli.app import app

PREPARE = [
    "--user-col", "reader", "--rating-col", "stars", "--title-col", "name", "--category-col", "subjects",
]  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A prepared bookshop with a trained recommender: the folder of the run."""
    folder = tmp_path_factory.mktemp("shop")
    catalogue = books()
    events = write_rows(ratings(catalogue), folder / "events.csv")
    items = write_rows(catalogue, folder / "items.csv")
    prepared = run("prepare", events, "--items", items, *PREPARE, "--out", folder / "data")
    assert prepared.exit_code == 0, prepared.output
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: books\nrecommend: {texts: false, rounds: 1, rating_rank: 2, rating_iterations: 3}\n"
        "train: {threads: 1}\n"
    )
    trained = run("train", recipe, "--set", f"data.path={folder / 'data'}", "--out", folder / "run")
    assert trained.exit_code == 0, trained.output
    return folder / "run"


def test_it_recommends_books_that_the_reader_has_not_read(shop):
    answer = json.loads(run("recommend", shop, "--user", "reader-3", "-k", 4, "--json").stdout)
    assert (answer["user_id"], answer["personal"], len(answer["items"])) == ("reader-3", True, 4)
    read = {one["isbn"] for one in ratings(books()) if one["reader"] == "reader-3"}
    assert not read & {one["item_id"] for one in answer["items"]}
    shown = run("recommend", shop, "--user", "reader-3", "-k", 4, "--category", "Crime")
    assert shown.exit_code == 0
    assert "user reader-3" in shown.stdout


def test_it_rates_and_chooses(shop):
    items = ["--item", "978-00001", "--item", "978-00002"]
    rated = json.loads(run("rate", shop, "--user", "reader-3", *items, "--json").stdout)
    assert [1 <= one["rating"] <= 10 for one in rated["items"]] == [True, True]
    chosen = json.loads(run("choose", shop, "--user", "reader-3", *items, "--json").stdout)
    assert chosen["item_id"] in chosen["probabilities"]
    assert "978-0000" in run("choose", shop, "--user", "reader-3", *items).stdout
    assert "Stories 1" in run("rate", shop, "--user", "reader-3", *items).stdout


def test_a_history_of_someone_else(shop, tmp_path):
    file = write_rows([{"item_id": "978-00001", "rating": 9}], tmp_path / "history.csv")
    answer = json.loads(run("recommend", shop, "--history", file, "--json").stdout)
    assert answer["personal"]
    assert len(answer["items"]) == 10


def test_a_finished_run_is_left_as_it_is(shop):
    before = (shop / "model" / "recommender.json").read_bytes()
    again = run("train", shop / "recipe.yaml", "--out", shop)
    assert "finished already" in again.stderr
    assert (shop / "model" / "recommender.json").read_bytes() == before


def test_faults_are_one_line(shop, tmp_path):
    for arguments, said in (
        (("recommend", shop, "--user", "nobody"), "no user 'nobody'"),
        (("rate", shop, "--user", "reader-3", "--item", "x"), "'x'"),
        (("recommend", tmp_path, "--user", "reader-3"), "not a run"),
        (("recommend", shop, "--user", "reader-3", "--category", "Crimes"), "did you mean 'Crime'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
