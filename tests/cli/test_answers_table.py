"""``palate answers``: a resumable table of answers for many users."""

import json

import polars as pl
import pytest

from bookshop_commands import run, trained_recommender
from palate.answers import load, table
from tiny_causal import save_causal


@pytest.fixture(autouse=True)
def without_encoder(shipped, monkeypatch):
    """As where no sentence encoder is installed, and with a small packaged model."""
    monkeypatch.setattr("palate.runs.run.PACKAGED_FOLDER", shipped)
    monkeypatch.setattr(load, "missing_modules", lambda extra: ("gone",))
    load.question_matcher.cache_clear()
    yield
    load.question_matcher.cache_clear()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A prepared bookshop with a trained recommender: the folder of the run."""
    settings = "texts: false, rounds: 1, rating_rank: 2, rating_iterations: 3, network_size: 0, ridge: 50"
    return trained_recommender(tmp_path_factory.mktemp("shop"), settings)


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text("What should I recommend to this user and why?\n\nDescribe this user.\n")
    return file


def users_file(folder, *names):
    file = folder / "users.txt"
    file.write_text("\n".join(names))
    return file


def test_each_user_has_a_row_for_each_question(shop, questions, tmp_path):
    out = tmp_path / "answers.parquet"
    users = users_file(tmp_path, "reader-3", "reader-7")
    done = run("answers", shop, "--users", users, "--questions", questions, "--out", out)
    assert done.exit_code == 0, done.output
    assert "4 answers about 2 users" in done.stdout
    assert "is understood as what to recommend to the user, and why (recommendation" in done.stderr
    found = pl.read_parquet(out)
    assert found.schema == pl.Schema(table.COLUMNS)
    assert found["user_id"].to_list() == ["reader-3", "reader-3", "reader-7", "reader-7"]
    assert found["kind"].to_list() == ["recommendation", "profile"] * 2
    assert found["source"].unique().to_list() == ["template"]
    chances = json.loads(found["chances"][0])
    assert found["text"][0].startswith(f"Recommended is {chances[0]['of']}")
    assert not list(tmp_path.glob("*.parts"))


def test_the_table_is_the_same_in_every_format_and_after_an_interruption(
    shop, questions, tmp_path, monkeypatch
):
    monkeypatch.setattr(table, "A_PART", 2)
    users = users_file(tmp_path, *(f"reader-{number}" for number in range(5)))
    asked = ["answers", shop, "--users", users, "--questions", questions, "--out"]
    assert run(*asked, tmp_path / "whole.parquet").exit_code == 0
    whole = pl.read_parquet(tmp_path / "whole.parquet")
    written, write = [], table._write_part

    def interrupted(job, some, file, progress):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(list(some))
        write(job, some, file, progress)

    monkeypatch.setattr(table, "_write_part", interrupted)
    stopped = run(*asked, tmp_path / "a.jsonl")
    assert stopped.exit_code == 130
    assert "run the same command again to resume" in stopped.output
    assert not (tmp_path / "a.jsonl").exists()
    written.clear()
    assert run(*asked, tmp_path / "a.jsonl").exit_code == 0
    assert written == [["reader-4"]]
    assert pl.read_ndjson(tmp_path / "a.jsonl", schema=table.COLUMNS).equals(whole)
    monkeypatch.setattr(table, "_write_part", write)
    assert run(*asked, tmp_path / "a.csv").exit_code == 0
    assert pl.read_csv(tmp_path / "a.csv", schema=table.COLUMNS).equals(whole)


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        (
            "q.txt",
            "Describe this user.\nWhat is the weather?\n",
            "q.txt:2: this is not a question about a user that can be answered",
        ),
        ("q.txt", "\n", "q.txt: found no question, expected one per line"),
        ("q.jsonl", '{"question": 3}\n', "q.jsonl:1: expected an object with a text question"),
        (
            "q.jsonl",
            '{"question": "Describe this user.", "item": "a"}\n',
            "q.jsonl:1: unknown or invalid field 'item'",
        ),
        (
            "q.jsonl",
            '{"question": "Would they like {item}?", "item_ids": ["x"]}\n',
            "q.jsonl:1: 1 item id is not known",
        ),
    ],
)
def test_wrong_questions_are_told_by_their_line_before_anything_is_written(shop, tmp_path, name, lines, said):
    file = tmp_path / name
    file.write_text(lines)
    done = run("answers", shop, "--users", "all", "--questions", file, "--out", tmp_path / "a.csv")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not list(tmp_path.glob("a.csv*"))


def test_the_output_is_checked_first(shop, questions, tmp_path):
    for out, said in (
        ("a.xlsx", "expected a file name that ends in .parquet or .csv or .jsonl"),
        ("q.csv", "already exists"),
    ):
        (tmp_path / "q.csv").touch()
        done = run("answers", shop, "--users", "all", "--questions", questions, "--out", tmp_path / out)
        assert (done.exit_code, said in done.stderr) == (2, True)


def test_a_model_alone_is_asked_in_other_words_or_refuses(shop):
    data = shop.parent / "data"
    asked = ["generate", "packaged", "--data", data, "--user", "reader-3", "--instruction"]
    done = run(*asked, "What sort of books is she fond of?")
    assert done.exit_code == 0, done.output
    assert "understood as categories that the user likes (liked" in done.stderr
    assert done.stdout.startswith("The user likes ")
    for question, said in (
        ("What is the weather?", "this is not a question about a user that can be answered"),
        ("What should I recommend to this user?", "needs a recommender; use palate ask"),
    ):
        refused = run(*asked, question)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr


def test_a_language_model_writes_the_sentences(shop, questions, tmp_path):
    author = save_causal(tmp_path / "author")
    users = users_file(tmp_path, "reader-3", "reader-7")
    asked = ["answers", shop, "--users", users, "--questions", questions, "--out"]
    assert run(*asked, tmp_path / "filled.parquet").exit_code == 0
    done = run(*asked, tmp_path / "written.parquet", "--writer", author)
    assert done.exit_code == 0, done.output
    filled, written = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("filled", "written"))
    assert written["source"].unique().to_list() == ["written"]
    assert all(a != b for a, b in zip(filled["text"], written["text"], strict=True))
    assert written.drop("text", "source").equals(filled.drop("text", "source"))


@pytest.mark.parametrize(
    ("name", "said"), [("own", "there is no model with a frozen"), ("./nowhere", "cannot be loaded")]
)
def test_a_writer_that_cannot_be_loaded_is_refused_first(shop, questions, tmp_path, name, said):
    done = run(
        "answers",
        shop,
        "--users",
        "all",
        "--questions",
        questions,
        "--out",
        tmp_path / "a.csv",
        "--writer",
        name,
    )
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "a.csv").exists()
