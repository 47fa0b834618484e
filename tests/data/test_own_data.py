"""From event files to answers: prepare, inspect, train, evaluate and generate, with and without ratings."""

import json
import re

import pytest
from typer.testing import CliRunner

from bookshop import books, purchases, ratings, write_rows
from palate.cli import app
from palate.config.load import dump_recipe
from palate.config.recipe import TaskSettings
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.data.windows import make_examples
from palate.errors import OutputError, RecipeError
from palate.evaluation.metrics import weighted_f1
from palate.evaluation.predictors.references import references
from palate.inspection.inspect import inspect
from palate.inspection.view import write_dataset_page
from palate.schema import membership
from palate.tasks import load_task
from tiny import tiny_recipe

BOOKS = books()


@pytest.fixture(scope="module", params=["ratings", "purchases"])
def shop(request, tmp_path_factory):
    """A folder with events, items and a dataset."""
    place = tmp_path_factory.mktemp(request.param)
    items = write_rows(BOOKS, place / "books.jsonl")
    made = ratings if request.param == "ratings" else purchases
    events = write_rows(made(BOOKS, readers=120), place / f"{request.param}.csv.gz")
    own = OwnData(items=str(items), user="reader" if request.param == "ratings" else None)
    prepare(events, place / "data", own=own, dev_share=0.2, test_share=0.3)
    return place


def run(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_all_the_way_to_an_answer(shop, tiny_sentence_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe(shop / "data", tiny_sentence_encoder, tmp_path / "cache", train={"max_steps": 4})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    run("train", "recipe.yaml", "--out", "run")
    shown = run("evaluate", "run")
    assert all(name in shown for name in ("shrinkage", "rule", "another user's history"))
    user = load_dataset(shop / "data").user_ids[0]
    assert run("generate", "run", "--user", user).endswith("\n")
    bought = [{"item_id": book["isbn"]} for book in BOOKS[:9]]
    (tmp_path / "me.json").write_text(json.dumps(bought))
    done = CliRunner().invoke(app, ["generate", "run", "--history", "me.json"])
    if load_dataset(shop / "data").info.feedback == "implicit":
        (tmp_path / "me.json").write_text(json.dumps([{**one, "rating": 1} for one in bought]))
        assert done.stdout == run("generate", "run", "--history", "me.json")
    else:
        assert "interaction 1: rating is missing" in done.stderr


def test_a_window_says_something_about_the_whole_history(shop):
    data = load_dataset(shop / "data")
    task = load_task(TaskSettings(), data.info)
    examples = make_examples(data, task, "test", 15, "random", seed=0)
    labels = len(task.label_names)
    truth = membership(examples.truth.liked, labels)
    f1 = {}
    for one in references(data, task, ["population", "rule", "shrinkage"], "random"):
        read = task.parse(one.predict(examples.user_index, examples.windows))
        f1[one.name.partition(":")[0]] = weighted_f1(truth, membership(read.liked, labels))
    assert f1["population"] < f1["rule"] - 0.1
    assert f1["shrinkage"] > f1["rule"] - 0.1
    whole = make_examples(data, task, "test", 1000, "recent", seed=0)
    [rule] = references(data, task, ["rule"], "recent")
    assert rule.predict(whole.user_index, whole.windows) == task.target_texts(whole.truth)


def test_users_are_not_simulated_without_ratings(shop, tiny_sentence_encoder, tmp_path):
    from palate.training.train import train_run

    recipe = tiny_recipe(
        shop / "data", tiny_sentence_encoder, tmp_path, simulation={"users": 5}, train={"max_steps": 1}
    )
    if load_dataset(shop / "data").info.feedback == "ratings":
        pytest.skip("there are ratings")
    with pytest.raises(RecipeError, match="users are simulated from ratings, which this data does not have"):
        train_run(recipe, tmp_path / "run")


def test_inspect_shows_what_is_there(shop, tmp_path):
    data = load_dataset(shop / "data")
    page = tmp_path / "page.html"
    shown = run("inspect", shop / "data", "--html", page, "--examples", 2)
    found = inspect(data, 2)
    assert f"{len(data.interactions):,}" in shown
    assert sum(row.interactions for row in found.values) == len(data.interactions)
    assert found.lengths[0] == data.interactions.lengths.min()
    assert found.longer[0][1] == 1.0
    for row in found.labels.categories:
        assert row.items == data.category_matrix[:, data.categories.index(row.name)].sum()
        assert row.name in shown
    assert [user.truth for user in found.users if user.truth not in re.sub(r"\s+", " ", shown)] == []
    html = page.read_text()
    assert all(row.name in html for row in found.labels.categories)
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    with pytest.raises(OutputError, match=r"a file name ending in \.html"):
        write_dataset_page(found, tmp_path / "page.txt")
    assert write_dataset_page(found, tmp_path / "again.html") is None
    assert (tmp_path / "again.html").read_text() == html


def test_choices_that_count_alike_have_no_values_to_show(tmp_path):
    once = {(one["customer_id"], one["isbn"]): one for one in purchases(BOOKS, readers=60)}
    events = write_rows(list(once.values()), tmp_path / "purchases.parquet")
    own = OwnData(items=str(write_rows(BOOKS, tmp_path / "books.jsonl")))
    data = prepare(events, tmp_path / "data", own=own)
    assert data.rating_values == (1.0,)
    shown = run("inspect", data.path, "--html", tmp_path / "page.html")
    for text in (shown, (tmp_path / "page.html").read_text()):
        assert "disliked" in text
        assert "mean weight" not in text
        assert "Weights" not in text


def test_a_dataset_without_categories_can_be_looked_at(tmp_path):
    rows = [{"user_id": user, "item_id": item} for user in range(9) for item in range(user % 3 + 2)]
    prepare(write_rows(rows, tmp_path / "ids.csv"), tmp_path / "out")
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "out"), "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert "expected at least 2 categories, found 0" in result.stdout
    assert "Label rules" not in result.stdout
    assert "What each label rule gives" not in page.read_text()
