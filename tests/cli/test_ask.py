"""``palate ask``: answers a question from event files in memory, with its evidence."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bookshop import books, purchases, ratings, write_rows
from bookshop_commands import COLUMNS
from palate.cli.app import app
from palate.data.dataset import load_dataset
from palate.model.model import PersonalizedModel
from palate.tasks.statistics import category_statistics
from tiny_causal import save_causal


@pytest.fixture(autouse=True)
def packaged(shipped, monkeypatch, tmp_path):
    monkeypatch.setattr("palate.runs.run.PACKAGED_FOLDER", shipped)
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(threads, "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(tmp_path):
    """Event and item files of a bookshop, and what their columns are."""
    catalogue = books()
    events = write_rows(ratings(catalogue), tmp_path / "shop" / "events.csv")
    items = write_rows(catalogue, tmp_path / "shop" / "items.csv")
    return [events, "--items", items, *COLUMNS]


def ask(*arguments):
    return CliRunner().invoke(app, ["ask", *map(str, arguments)])


def answered(*arguments):
    done = ask(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_it_answers_and_says_what_the_answer_rests_on(shop, tmp_path):
    found = answered(*shop, "--user", "reader-3", "--save", tmp_path / "data")
    (answer,) = found["answers"]
    assert answer["text"].startswith("The user likes ")
    data = load_dataset(tmp_path / "data")
    row = data.user_index("reader-3")
    read = category_statistics(data.interactions, data.category_matrix, data.rating_values)
    assert answer["interactions"] == read.length[row]
    for half in ("liked", "disliked"):
        for one in answer[half]:
            label = data.categories.index(one["name"])
            assert one["name"] in answer["text"]
            assert one["count"] == read.count[row, label]
            assert one["mean"] == pytest.approx(read.total[row, label] / max(read.count[row, label], 1))
            assert 0 <= one["chance"] <= 1
    assert found["data"]["users"] == 60
    assert any("events: user reader" in line for line in found["said"])


def test_it_shows_a_table_and_leaves_nothing_behind(shop, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    done = ask(*shop, "--user", "reader-3")
    assert done.exit_code == 0, done.output
    assert "The user likes" in done.stdout
    assert "user reader-3" in done.stdout
    assert "ratings read" in done.stdout
    assert "mean rating" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_the_users_who_are_asked_about_are_not_in_the_population(shop, monkeypatch):
    seen = []
    bind = "palate.model.model.PersonalizedModel.bind"

    original = PersonalizedModel.bind
    monkeypatch.setattr(
        bind, lambda model, data, summary: seen.append(summary.users) or original(model, data, summary)
    )
    answered(*shop, "--user", "reader-3", "--user", "reader-4", "--user", "reader-3")
    assert seen == [58]


def test_a_history_of_someone_else_may_bring_new_items(shop, tmp_path):
    mine = tmp_path / "me.json"
    events = [
        {"item_id": "978-00001", "rating": 9},
        {"title": "Night trains", "categories": ["Travel", "Railways"], "rating": 10},
        {"title": "Slow trains", "categories": ["Railways"], "rating": 10},
    ]
    mine.write_text(json.dumps(events))
    found = answered(*shop, "--history", mine, "--user", "reader-3")
    assert [one["user_id"] for one in found["answers"]] == ["reader-3", "me"]
    assert found["answers"][1]["interactions"] == 3


def test_a_question_in_own_words(shop):
    done = answered(*shop, "--user", "reader-3", "--question", "Which subjects does this user like?")
    (answer,) = done["answers"]
    assert answer["question"] == "Which subjects does this user like?"


def test_a_language_model_writes_the_answer(shop, tmp_path):
    author = save_causal(tmp_path / "author")
    asked = [*shop, "--user", "reader-3", "--question", "What should I recommend to this user and why?"]
    (answer,) = answered(*asked, "--writer", author)["answers"]
    assert (answer["source"], answer["kind"]) == ("written", "recommendation")
    assert answer["chances"][0]["of"] in answer["text"]


def test_choices_without_ratings(tmp_path):
    catalogue = books()
    events = write_rows(purchases(catalogue), tmp_path / "events.jsonl")
    items = write_rows(catalogue, tmp_path / "items.jsonl")
    (answer,) = answered(
        events, "--items", items, "--user", "7", "--title-col", "name", "--category-col", "subjects"
    )["answers"]
    assert answer["text"].startswith("The user likes ")


@pytest.mark.parametrize("per_item", [1, 3])
def test_any_names(tmp_path, per_item):
    """Chinese, Japanese, accents, and names that another begins with; one tag an item."""
    rng = np.random.default_rng(0)
    tags = ["喜剧", "喜剧 2", "アニメ", "Théâtre", "Ψυχολογία", "детектив", "Sci-Fi & <Fantasy>", "R&B"]
    catalogue = [
        {
            "item_id": f"作品{row}",
            "title": f"作品 {row}",
            "tags": rng.choice(tags, per_item, replace=False).tolist(),
        }
        for row in range(60)
    ]
    events = [
        {"user_id": f"用户{user}", "item_id": f"作品{row}", "rating": int(rng.integers(1, 6))}
        for user in range(25)
        for row in rng.choice(60, 15, replace=False)
    ]
    files = write_rows(events, tmp_path / "events.csv"), write_rows(catalogue, tmp_path / "items.jsonl")
    found = answered(files[0], "--items", files[1], "--user", "用户3")
    assert set(found["data"]["categories"]) == set(tags)
    named = [one["name"] for half in ("liked", "disliked") for one in found["answers"][0][half]]
    assert set(named) <= set(tags)
    assert len(set(named)) == len(named)


def test_one_user_alone_is_answered_with_a_warning(tmp_path):
    catalogue = books()
    events = [event for event in ratings(catalogue) if event["reader"] == "reader-3"]
    files = write_rows(events, tmp_path / "events.csv"), write_rows(catalogue, tmp_path / "items.csv")
    found = answered(files[0], "--items", files[1], *COLUMNS, "--user", "reader-3")
    assert any("the events have no other users" in line for line in found["said"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --user, --history or both"),
        (["--user", "reader-99"], "no user 'reader-99'"),
        (["--user", "reader-3", "--question", " "], "it is blank"),
        (["--user", "reader-3", "--writer", "own"], "it writes answers"),
        (["--user", "reader-3", "--question", "Why?", "--writer", "own"], "there is no model with a frozen"),
        (["--user", "reader-3", "--rating-col", "points"], "points"),
        (["--user", "reader-3", "--save", "shop"], "shop is not empty"),
        (["--history", "gone.json"], "gone.json: no such file"),
        (["--user", "reader-3", "--run", "nowhere"], "no model here"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(shop, arguments, said):
    done = ask(*shop, *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output
