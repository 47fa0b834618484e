"""Every file argument of every command, given a wrong file: one line that names it, and exit code 2."""

import csv
import json
import shutil
from itertools import product

import pytest
from typer.testing import CliRunner

from bookshop import books, ratings, write_rows
from palate.cli.app import app
from palate.data.dataset import load_dataset
from palate.data.tabular.settings import own_settings
from palate.errors import RecipeError
from palate.training.train import train_run
from tiny import tiny_recipe, write_movielens


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_data, tiny_sentence_encoder):
    """Good files of every kind, and a run."""
    folder = tmp_path_factory.mktemp("good")
    catalogue = books(60)
    write_rows(ratings(catalogue, 8)[:120], folder / "events.csv")
    write_rows(catalogue, folder / "items.csv")
    write_movielens(folder / "ml")
    shutil.copytree(tiny_data.path, folder / "data")
    (folder / "keys.txt").write_text("0123456789abcdef\n")
    train_run(
        tiny_recipe(tiny_data.path, tiny_sentence_encoder, folder / "cache", train={"max_steps": 1}),
        folder / "run",
    )
    return folder


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _prepare(place, *arguments):
    return ["prepare", *arguments, "--user-col", "reader", "--out", str(place / "out")]


def _as_events(place, path):
    return _prepare(place, path, "--items", place / "items.csv")


def _as_items(place, path):
    return _prepare(place, place / "events.csv", "--items", path)


ARGUMENTS = {
    "prepare events.csv": ("bad.csv", _as_events),
    "prepare events.csv.gz": ("bad.csv.gz", _as_events),
    "prepare events.jsonl": ("bad.jsonl", _as_events),
    "prepare events.parquet": ("bad.parquet", _as_events),
    "prepare release.zip": ("bad.zip", lambda place, path: ["prepare", path, "--out", place / "out"]),
    "prepare --items csv": ("bad.csv", _as_items),
    "prepare --items jsonl": ("bad.jsonl", _as_items),
    "prepare --items parquet": ("bad.parquet", _as_items),
    "prepare --settings": (
        "bad.yaml",
        lambda place, path: _prepare(place, place / "events.csv", "--settings", path),
    ),
    "prepare --descriptions": (
        "bad.csv",
        lambda place, path: [*_as_events(place, place / "events.csv"), "--descriptions", path],
    ),
    "prepare ml --descriptions": (
        "bad.csv",
        lambda place, path: ["prepare", place / "ml", "--descriptions", path, "--out", place / "out"],
    ),
    "inspect": ("bad", lambda place, path: ["inspect", path]),
    "train": ("bad.yaml", lambda place, path: ["train", path, "--out", place / "trained"]),
    "evaluate": ("bad", lambda place, path: ["evaluate", path]),
    "evaluate --data": ("bad", lambda place, path: ["evaluate", place / "run", "--data", path]),
    "questions": ("bad", lambda place, path: ["questions", path]),
    "generate": ("bad", lambda place, path: ["generate", path, "--user", "1"]),
    "generate --data": (
        "bad",
        lambda place, path: ["generate", place / "run", "--user", "1", "--data", path],
    ),
    "generate --history json": (
        "bad.json",
        lambda place, path: ["generate", place / "run", "--history", path],
    ),
    "generate --history jsonl": (
        "bad.jsonl",
        lambda place, path: ["generate", place / "run", "--history", path],
    ),
    "generate --history csv": ("bad.csv", lambda place, path: ["generate", place / "run", "--history", path]),
    "export": ("bad", lambda place, path: ["export", path, "--user", "1", "--out", place / "prompts"]),
    "export --users": (
        "bad.txt",
        lambda place, path: ["export", place / "run", "--users", path, "--out", place / "prompts"],
    ),
    "export --history": (
        "bad.csv",
        lambda place, path: ["export", place / "run", "--history", path, "--out", place / "prompts"],
    ),
    "serve": ("bad", lambda place, path: ["serve", path]),
    "serve --api-key-file": ("bad.txt", lambda place, path: ["serve", place / "run", "--api-key-file", path]),
}


WRONG = {
    "a folder": lambda path: path.mkdir(),
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an empty file": lambda path: path.write_bytes(b""),
    "binary rubbish": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "UTF-16": lambda path: path.write_bytes("item_id,rating\n1,2\n".encode("utf-16")),
    "a file within a file": lambda path: (
        path.with_name("file").write_text("x") and path.with_name("file") / path.name
    ),
    "a name that is too long": lambda path: path.with_name("x" * 300 + path.suffix),
    "nothing at all": lambda path: None,
}


DEFAULTS = {("prepare --settings", "an empty file"), ("train", "an empty file")}
"""What says nothing leaves all settings as they are."""


@pytest.mark.parametrize(
    ("argument", "wrong"), [pair for pair in product(ARGUMENTS, WRONG) if pair not in DEFAULTS]
)
def test_what_is_no_file_is_named_in_one_line(place, tmp_path, argument, wrong):
    name, arguments = ARGUMENTS[argument]
    given = WRONG[wrong](tmp_path / name)
    path = given if hasattr(given, "parent") else tmp_path / name
    done = CliRunner().invoke(app, list(map(str, arguments(place, path))))
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.output
    *_, said = done.stderr.splitlines()  # what was done before stands above
    assert said.startswith("palate: ")
    assert str(path) in said
    assert not (place / "out").exists()
    assert not (place / "prompts").exists()


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_byte_order_mark_and_foreign_newlines_are_no_part_of_what_is_written(place, tmp_path, newline):
    def marked(path, content):
        path.write_bytes(MARK + content.replace(b"\n", newline))
        return path

    events = marked(tmp_path / "events.csv", (place / "events.csv").read_bytes())
    items = marked(tmp_path / "items.csv", (place / "items.csv").read_bytes())
    settings = marked(tmp_path / "own.yaml", b"user: reader\ntitle: '{name} by {author}'\n")
    descriptions = marked(tmp_path / "texts.csv", b"movie_id,description\n978-00004,Told again.\n")
    options = ["--items", items, "--settings", settings, "--descriptions", descriptions]
    arguments = ["prepare", events, *options, "--min-ratings", "1", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.stderr
    made, plain = load_dataset(tmp_path / "out"), read_rows(place / "events.csv")
    assert made.info.interactions == len(plain)
    assert made.items["title"][0] == f"{books(60)[0]['name']} by {books(60)[0]['author']}"
    users = marked(tmp_path / "users.txt", b"1\n2\n")
    history = marked(tmp_path / "me.csv", b"item_id,rating\n1,4\n")
    given = ["--users", users, "--history", history, "--out", tmp_path / "prompts"]
    done = CliRunner().invoke(app, list(map(str, ["export", place / "run", *given])))
    assert done.exit_code == 0, done.stderr
    assert json.loads((tmp_path / "prompts" / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user: a\nuser: b\n", "not valid YAML: 'user' occurs twice"),
        ("? [1, 2]\n: 3\n", ""),
        ("year: 2024-02-30\n", "not valid YAML: day is out of range for month"),
        ("[" * 1000, "not valid YAML: "),
        ("- user\n", "found list, expected settings like 'seed: 0'"),
    ],
)
def test_settings_that_are_none_are_told_in_one_line(tmp_path, text, said):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        own_settings(path, {})
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
