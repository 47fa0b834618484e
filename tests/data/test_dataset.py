"""Datasets on disk and in memory: lookups, and errors for damaged files."""

import json

import numpy as np
import polars as pl
import pytest

from movielens_writers import content, write_1m
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.errors import DataError
from palate.schema import SPLITS


@pytest.fixture
def folder(tmp_path):
    write_1m(tmp_path / "raw", content())
    return prepare(tmp_path / "raw", tmp_path / "dataset").path


def change(folder, **fields):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_category_matrix_says_which_item_has_what(folder):
    dataset = load_dataset(folder)
    for row, movie in zip(dataset.category_matrix, content().movies, strict=True):
        assert tuple(np.asarray(dataset.categories)[row]) == movie.genres


def test_the_splits_share_out_the_users(folder):
    dataset = load_dataset(str(folder))
    users = [dataset.users(split) for split in SPLITS]
    assert sorted(np.concatenate(users)) == list(range(dataset.info.users))
    assert {split: len(found) for split, found in zip(SPLITS, users, strict=True)} == dataset.info.split_sizes


def test_users_are_found_by_their_ids(folder):
    dataset = load_dataset(folder)
    assert [dataset.user_index(user_id) for user_id in dataset.user_ids] == list(range(dataset.info.users))
    first, last = dataset.histories(["2", "35"])
    assert (first.user_id, last.user_id) == ("2", "35")
    assert len(first) == sum(user == 2 for user, *_ in content().ratings)


def test_an_unknown_user_is_told_with_a_hint(folder):
    with pytest.raises(
        DataError, match=r"no user '3' among the 12 .* look like '2' and '35'; users with fewer than 20"
    ):
        load_dataset(folder).histories(["2", "3"])


@pytest.mark.parametrize("name", ["dataset.json", "interactions.parquet", "users.parquet", "items.parquet"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(
        DataError, match=rf"{name}: the file is missing; (run|give a folder that) palate prepare"
    ):
        load_dataset(folder)


@pytest.mark.parametrize("name", ["interactions.parquet", "users.parquet", "items.parquet"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_truncated_table_is_named(folder, name, keep):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(
        DataError, match=rf"{name}: not a readable Parquet table .*; run palate prepare again"
    ):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"format": 2}, "format 2, but this palate reads format 1"),
        ({"users": "many"}, "users: expected a valid integer"),
        ({"colour": "red"}, "colour: unknown field"),
        ({"users": 3}, "dataset.json says 3 users, the tables hold 12"),
        ({"items": 3}, "dataset.json says 3 items, the tables hold 40"),
        ({"interactions": 3}, "dataset.json says 3 interactions"),
        (
            {"split_sizes": {"train": 9, "dev": 1, "test": 2}},
            "dataset.json says 9 train users, the tables hold 10",
        ),
        ({"split_sizes": {"train": 10}}, "dataset.json says 0 dev users, the tables hold 1"),
        ({"categories": ["Action"]}, "items have the category .* that dataset.json does not list"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(folder, fields, complaint):
    change(folder, **fields)
    with pytest.raises(DataError, match=complaint):
        load_dataset(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_description_is_refused(folder, text):
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset.json: (not JSON|format None)"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("name", "column", "value", "complaint"),
    [
        (
            "interactions.parquet",
            "item_index",
            pl.lit(40, pl.Int32),
            "item_index 40, but items.parquet has 40 items",
        ),
        (
            "interactions.parquet",
            "item_index",
            pl.lit(-1, pl.Int32),
            "item_index -1, but items.parquet has 40 items",
        ),
        (
            "interactions.parquet",
            "rating_index",
            pl.lit(5, pl.UInt8),
            "rating_index 5, but dataset.json lists 5",
        ),
        ("interactions.parquet", "timestamp", pl.lit(0.5), "column timestamp is Float64, expected Int64"),
        ("users.parquet", "split", pl.lit("exam"), "unknown split 'exam'; expected train, dev, test"),
        (
            "users.parquet",
            "interactions",
            pl.lit(1, pl.Int64),
            "users.parquet counts 12; run palate prepare again",
        ),
        ("users.parquet", "user_id", pl.lit(None, pl.String), "a required field is empty"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(folder, name, column, value, complaint):
    table = pl.read_parquet(folder / name)
    table.with_columns(value.alias(column)).write_parquet(folder / name)
    with pytest.raises(DataError, match=complaint):
        load_dataset(folder)


def test_a_missing_column_is_named(folder):
    path = folder / "users.parquet"
    pl.read_parquet(path).drop("split").write_parquet(path)
    with pytest.raises(DataError, match=r"users.parquet: not a readable Parquet table .*split"):
        load_dataset(folder)
