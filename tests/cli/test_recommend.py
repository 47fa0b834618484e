"""``palate train`` with a recommender's recipe, and ``palate recommend``, ``rate`` and ``choose``."""

import json
import re

import pytest

from bookshop import books, ratings, write_rows
from bookshop_commands import run, trained_recommender


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A prepared bookshop with a trained recommender: the folder of the run."""
    settings = "texts: false, rounds: 1, rating_rank: 2, rating_iterations: 3"
    return trained_recommender(tmp_path_factory.mktemp("shop"), settings)


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


def test_a_history_may_have_items_in_words(shop, tmp_path):
    events = [
        {"title": "A Murder at Sea", "categories": ["Crime"], "rating": 10},
        {"item_id": "978-00001", "rating": 2},
    ]
    shown = run("recommend", shop, "--history", write_rows(events, tmp_path / "me.jsonl"))
    assert shown.exit_code == 0, shown.output
    assert "A Murder at Sea" in " ".join(shown.stdout.split()).partition("From 2 events, the newest: ")[2]
    alone = write_rows(events[:1], tmp_path / "alone.jsonl")
    found = json.loads(run("recommend", shop, "--history", alone, "-k", 5, "--json").stdout)
    assert found["personal"]
    assert "new: A Murder at Sea" not in {one["item_id"] for one in found["items"]}


def test_new_items_are_rated_and_chosen_by_their_words(shop, tmp_path):
    crime = {one["isbn"] for one in books() if "Crime" in one["subjects"]}
    liked = [{"item_id": one, "rating": 10} for one in sorted(crime)[:8]]
    others = sorted({one["isbn"] for one in books()} - crime)[:8]
    file = write_rows([*liked, *({"item_id": one, "rating": 1} for one in others)], tmp_path / "me.jsonl")
    other = next(name for one in books() if one["isbn"] == others[0] for name in one["subjects"])
    new = [
        "--new-item",
        "A Murder at Sea | Crime | On a ship",
        "--new-item",
        json.dumps({"title": "Else | where", "categories": [other]}),
    ]
    rated = json.loads(run("rate", shop, "--history", file, *new, "--item", "978-00001", "--json").stdout)
    assert [one["title"] for one in rated["items"]][1:] == ["A Murder at Sea", "Else | where"]
    assert [1 <= one["rating"] <= 10 for one in rated["items"]] == [True] * 3
    chosen = run("choose", shop, "--user", "reader-3", *new)
    assert chosen.exit_code == 0, chosen.output
    assert "Else | where" in chosen.stdout
    shown = run("rate", shop, "--user", "reader-3", "--user", "reader-4", "--new-item", "Untold | Crimes")
    assert "'Crimes' is not a category of" in shown.stderr
    assert "did you mean 'Crime'?" in shown.stderr
    assert "'Untold' is scored without any information" in shown.stderr
    assert len(lines(shown)) == 2


def test_faults_of_new_items_are_one_line(shop, tmp_path):
    texts = [{"item_id": "978-00001", "title": "Mine", "rating": 9}]
    file = write_rows(texts, tmp_path / "mine.jsonl")
    for arguments, said in (
        (("rate", shop, "--user", "reader-3", "--new-item", " | Crime"), "title is '', expected text"),
        (("rate", shop, "--user", "reader-3", "--new-item", '{"name": 1}'), "unknown field 'name'"),
        (
            ("rate", shop, "--user", "reader-3", "--new-item", '{"item_id": 1}'),
            "no title; a new item needs one",
        ),
        (("rate", shop, "--user", "reader-3", "--new-item", "{"), "not valid JSON"),
        (
            ("recommend", shop, "--history", file),
            "'978-00001' is in the catalogue already; leave its texts out",
        ),
        (("choose", shop, "--user", "reader-3", "--new-item", "One | Crime"), "at least two different items"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert "with --new-item" in run("rate", shop, "--user", "reader-3").stderr


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


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_several_users_are_answered_a_line_each(shop, tmp_path):
    two = lines(run("recommend", shop, "--user", "reader-3", "--user", "reader-4", "-k", 2))
    assert [(one["user_id"], len(one["items"])) for one in two] == [("reader-3", 2), ("reader-4", 2)]
    file = tmp_path / "users.txt"
    file.write_text("reader-9\n\nreader-3\n")
    rated = lines(run("rate", shop, "--users", file, "--item", "978-00001"))
    assert [one["user_id"] for one in rated] == ["reader-9", "reader-3"]
    chosen = lines(run("choose", shop, "--users", "all", "--item", "978-00001", "--item", "978-00002"))
    assert len({one["user_id"] for one in chosen}) == 60
    alone = json.loads(run("recommend", shop, "--user", "reader-3", "-k", 2, "--json").stdout)
    assert [one["item_id"] for one in two[0]["items"]] == [one["item_id"] for one in alone["items"]]


def test_someone_without_events_gets_the_population_s_list_and_is_told(shop, tmp_path):
    for name, content in (("nobody.json", "[]"), ("nobody.csv", "item_id,rating\n"), ("nobody.jsonl", "")):
        (tmp_path / name).write_text(content)
        answer = run("recommend", shop, "--history", tmp_path / name, "--json")
        assert "the history is empty: this is the answer for the population" in answer.stderr
        assert json.loads(answer.stdout)["personal"] is False


def test_a_list_that_is_shorter_than_asked_for_says_so(shop):
    shown = run("recommend", shop, "--user", "reader-3", "-k", 80)
    assert "no others are allowed" in shown.stderr


def test_a_choice_shows_every_item_with_its_chance(shop):
    shown = run("choose", shop, "--user", "reader-3", "--item", "978-00001", "--item", "978-00002").stdout
    assert "would choose" in shown
    assert shown.count("978-0000") == 2


def test_faults_of_users_are_one_line(shop, tmp_path):
    file = tmp_path / "users.txt"
    file.write_text("reader-3\nreader-333\n")
    (tmp_path / "empty.txt").write_text("\n")
    for arguments, said in (
        (("--users", file), "users.txt:2: no user 'reader-333' in the data; did you mean"),
        (("--users", tmp_path / "empty.txt"), "empty.txt: found no user ids, expected one per line"),
        (("--users", tmp_path / "gone"), "no such file of users"),
        (("--users", "all", "--user", "reader-3"), "give one of --user, --users and --history"),
        ((), "give one of --user, --users and --history"),
        (("--user", "reader-3", "--user", "reader-x"), "no user 'reader-x'"),
    ):
        result = run("recommend", shop, *arguments)
        assert result.exit_code == 2
        assert said in result.stderr.replace("\n", " ")
        assert not result.stdout


def test_a_list_without_any_item_is_shown(shop, tmp_path):
    everything = [{"item_id": one["isbn"], "rating": 5} for one in books()]
    file = write_rows(everything, tmp_path / "all.jsonl")
    shown = run("recommend", shop, "--history", file)
    assert shown.exit_code == 0, shown.output
    assert "only 0 of 10 items: no others are allowed" in shown.stderr


def test_an_answer_names_what_it_rests_on(shop, tmp_path):
    events = [{"item_id": f"978-0000{n}", "rating": 9} for n in (1, 2)]
    shown = run("recommend", shop, "--history", write_rows(events, tmp_path / "me.jsonl"), "-k", 2).stdout
    assert re.search(
        r"From 2 events, the newest: \w+ Stories 2 \(1952\); \w+ Stories 1 \(1951\)\.",
        " ".join(shown.split()),
    )
