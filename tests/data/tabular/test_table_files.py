"""Files of rows in every format: what is read, and the errors for what cannot be read."""

import json

import polars as pl
import pytest

from palate.data.tabular.files import find_row_files
from palate.errors import DataError


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def rows_of(files, columns):
    return files.read(columns, lambda batch: batch.table)[0].rows()


@pytest.mark.parametrize("name", ["a[1].csv", "a?.csv", "a*.csv"])
def test_a_file_that_exists_is_never_a_pattern(file, name):
    named = file(name, "user\nnamed\n")
    file("a1.csv", "user\nneighbour\n")
    files = find_row_files([named])
    assert files.paths == (named,)
    assert rows_of(files, ["user"]) == [("named",)]


@pytest.mark.parametrize("name", ["a[1].parquet", "a?.jsonl"])
def test_nor_in_other_formats(file, tmp_path, name):
    for place, user in ((name, "named"), (name.translate({91: "", 93: "", 63: "1"}), "neighbour")):
        table = pl.DataFrame({"user": [user]})
        path = tmp_path / place
        if path.suffix == ".parquet":
            with path.open("wb") as target:
                table.write_parquet(target)
        else:
            path.write_text(json.dumps({"user": user}))
    assert rows_of(find_row_files([tmp_path / name]), ["user"]) == [("named",)]


def test_patterns_and_homes_are_expanded(file, tmp_path, monkeypatch):
    file("b.csv", "user\n2\n")
    file("a.csv", "user\n1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rows_of(find_row_files(["~/*.csv"]), ["user"]) == [("1",), ("2",)]


def test_columns_are_found_by_name_in_every_file(file, tmp_path):
    files = find_row_files([file("a.csv", "user,item\n1,2\n"), file("b.csv", "note;item;user\nx;4;3\n")])
    assert rows_of(files, ["user", "item"]) == [("1", "2"), ("3", "4")]
    lacking = find_row_files([file("c.csv", "user,item\n1,2\n"), file("d.csv", "user,thing\n1,2\n")])
    with pytest.raises(DataError, match=r"d.csv: no column 'item' as in c.csv; there are 'user', 'thing'"):
        rows_of(lacking, ["user", "item"])
    pl.DataFrame({"user": [1]}).write_parquet(tmp_path / "e.parquet")
    pl.DataFrame({"user": ["1"]}).write_parquet(tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"f.parquet: column 'user' has type String, but Int64 in e.parquet"):
        rows_of(find_row_files([tmp_path / "e.parquet", tmp_path / "f.parquet"]), ["user"])


def test_what_cannot_be_opened_is_told_by_its_kind(file, tmp_path):
    (tmp_path / "link.csv").symlink_to("gone.csv")
    (tmp_path / "folder.csv").mkdir()
    damaged = file("damaged.parquet", "no parquet at all")
    for name, message in (
        ("link.csv", "is a link to gone.csv, which does not exist"),
        ("folder.csv", "is a folder; name the files in it"),
        ("gone.csv", "no such file, and no file matches it as a pattern"),
    ):
        with pytest.raises(DataError, match=message):
            find_row_files([tmp_path / name])
    with pytest.raises(DataError, match=r"damaged.parquet: cannot be read as Parquet: .*; copy or write"):
        _ = find_row_files([damaged]).schema


def test_numbers_of_json_lines_keep_their_digits(file):
    text = '\ufeff{"id": 101463350189962023001, "x": 12.0}\n\r\n{"x": 0.10, "id": 18446744073709551615}\r{"id": NaN}\n'
    files = find_row_files([file("a.jsonl", text)])
    assert rows_of(files, ["id", "x"]) == [
        ("101463350189962023001", "12"),
        ("18446744073709551615", "0.10"),
        (None, None),
    ]


def test_fields_of_json_lines_may_come_late_and_lists_are_spread(file):
    rows = [{"id": 1}] * 5000 + [{"id": "2", "tags": [["a", 1], ["b"]], "late": {"x": 1}}]
    files = find_row_files([file("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))])
    assert list(files.schema) == ["id", "tags", "late"]
    assert rows_of(files, ["tags", "late"])[-1] == (["a", "1", "b"], '{"x": 1}')
    assert files.first_nested("late") == (files.paths[0], 5001)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": ', "not valid JSON"),
        ("[1, 2]", "expected an object on each line"),
        ('{"id": 1, "id": 2}', "the key 'id' occurs twice"),
        ('{"id": "\\ud800"}', "half of a surrogate pair"),
        ('{"id": ' + "[" * 100_000, "not valid JSON: nested too deeply"),
        ('{"id": ' + "1" * 5000 + "}", "not valid JSON: Exceeds the limit"),
    ],
)
def test_a_line_that_holds_no_object_is_named_or_left_out_and_counted(file, line, message):
    path = file("a.jsonl", f'{{"id": 1}}\n{line}\n{{"id": 3}}\n')
    with pytest.raises(DataError, match=rf"a.jsonl:2: .*{message}"):
        rows_of(find_row_files([path]), ["id"])
    files = find_row_files([path], skip_bad_rows=True)
    table, left_out = files.read(["id"], lambda batch: batch.table)
    assert (table["id"].to_list(), left_out) == (["1", "3"], 1)
    assert files.line_of(1) == (path, 3)
    assert message in str(files.first_skipped())
