"""CSV files are parsed as Python's csv module does, or refused with the line."""

import csv
import gzip
import io
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palate.data.tabular import csv_files
from palate.data.tabular.csv_files import CsvOptions, csv_rows, find_dialect, read_csv
from palate.data.tabular.skipped_rows import SkippedRows
from palate.errors import DataError

HEADER = b"user,item,note\n"
COLUMNS = ["user", "item", "note"]
PLAIN = CsvOptions()


def rows_of(path, wanted=COLUMNS, options=PLAIN, skip=False):
    """What palate reads: the rows, and how many were left out."""
    skipped = SkippedRows(skip)
    dialect = find_dialect(path, options)
    found = [row for batch in read_csv(path, dialect, wanted, skipped) for row in batch.rows()]
    return found, skipped.count


def csv_module_rows(content, delimiter=","):
    """The same by Python's csv module: blank lines are no rows, empty fields are none."""
    text = content.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    return [tuple(field or None for field in row) for row in rows if row][1:]


@pytest.fixture
def file(tmp_path):
    def write(content, name="events.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "events.csv"


FIELDS = st.text(alphabet='a7é", \n\r', max_size=6)
MARKS = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "7", " ", "é", "\0"]), max_size=60)


@settings(max_examples=400, deadline=None)
@example('1,2,7" single\n3,4,7" single\n')
@example('1,2,"x"y\n3,4,"x""y"\n')
@example('1,2,"open\n3,4,lp\n5,6,"open\n')
@example('1,2,"never closed\n3,4,5\n')
@example('1,2,"a\nb"\n')
@example("1,2\n3,4,5,6\n")
@example("1,2,3\n\n\n4,5,6")
@given(MARKS.map("".join))
def test_any_text_is_read_as_the_csv_module_reads_it_or_refused_with_a_line(scratch, text):
    content = HEADER + text.encode()
    scratch.write_bytes(content)
    expected = csv_module_rows(content)
    try:
        found = [rows_of(scratch, wanted)[0] for wanted in (COLUMNS, ["item"])]
    except DataError as error:
        assert error.line is not None  # noqa: PT017 - what is refused differs from example to example
        assert any(len(row) != 3 for row in expected) or '"' in text
    else:
        assert found == [expected, [(item,) for _, item, _ in expected]]
        assert len(list(csv_rows(scratch, find_dialect(scratch, PLAIN), SkippedRows(False)))) == len(expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_the_csv_module_writes_is_read_back_at_every_block_boundary(scratch, rows, end):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("user", "item", "note"), *rows])
    scratch.write_bytes(text.getvalue().encode())
    expected = [tuple(field or None for field in row) for row in rows]
    assert rows_of(scratch)[0] == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_BLOCK", 97)
        assert rows_of(scratch)[0] == expected


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("sizes", [1024, 1])
def test_a_line_end_in_quotes_keeps_its_bytes_wherever_blocks_meet(file, monkeypatch, compress, sizes):
    """With one size of blocks to choose from, half of the files are left to the csv module."""
    monkeypatch.setattr(csv_files, "_BLOCK", 256)
    monkeypatch.setattr(csv_files, "_BLOCK_SIZES", sizes)
    for length in range(12):
        rows = [("x" * length, "1", "a\r\nb"), *(("u", str(n), "a\r\n\r\nb\rc\nd") for n in range(100))]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([COLUMNS, *rows])
        path = file(compress(text.getvalue().encode()))
        assert rows_of(path)[0] == [tuple(field or None for field in row) for row in rows]


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.csv.zst"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_compressed_or_not_with_every_line_end_the_rows_are_the_same(file, name, end):
    content = end.join(["\ufeffuser,item,note", "1,2,x", "", "3,4,", ""]).encode()
    if name.endswith(".gz"):
        content = gzip.compress(content)
    elif name.endswith(".zst"):
        content = pa.Codec("zstd").compress(content).to_pybytes()
    assert rows_of(file(content, name))[0] == [("1", "2", "x"), ("3", "4", None)]


def test_a_bare_quote_in_a_column_that_nobody_asked_for_loses_no_row(file):
    rows = [f"u{n},i{n},{'7'}{chr(34)} single" if n in (100, 140) else f"u{n},i{n},lp" for n in range(600)]
    path = file(HEADER + "\n".join(rows).encode())
    assert rows_of(path, ["user", "item"])[0] == [(f"u{n}", f"i{n}") for n in range(600)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('1,2,x\n3,4,"open\n5,6,x\n', 3, "a quote opens here and is never closed"),
        ('1,2,"a\nb"\n3,4,"open\n5,6,x', 4, "a quote opens here and is never closed"),
        (
            '1,2,x\n3,4,"open\n5,6,"open\n',
            3,
            "a quote opens here and is closed on line 4 with text after it",
        ),
        ("1,2,x\n3,4\n", 3, "found 2 fields, expected 3 as in the header"),
        ("1,2,x\n\n3,4,5,6\n", 4, "found 4 fields, expected 3 as in the header"),
    ],
)
def test_what_would_lose_rows_is_refused_with_the_line_where_it_begins(file, text, line, message):
    path = file(HEADER + text.encode())
    with pytest.raises(DataError, match=message) as caught:
        rows_of(path, ["user"])
    assert caught.value.line == line


def test_rows_of_another_width_may_be_left_out_and_are_counted(file):
    path = file(HEADER + b"1,2,x\n3,4\n5,6,7,8\n9,10,y\n")
    assert rows_of(path, ["user", "note"], skip=True) == ([("1", "x"), ("9", "y")], 2)
    assert [line for line, _ in csv_rows(path, find_dialect(path, PLAIN), SkippedRows(True))] == [2, 5]


def test_rows_before_and_behind_a_bad_one_are_read_once(file, monkeypatch):
    rows = [(f"u{n}", f"i{n}", None) for n in range(300)]
    lines = [f"{user},{item}," for user, item, _ in rows]
    path = file(HEADER + "\n".join([*lines[:200], "bad", *lines[200:], "worse"]).encode())
    for block in (1 << 20, 200):
        monkeypatch.setattr(csv_files, "_BLOCK", block)
        assert rows_of(path, skip=True) == (rows, 2)


def test_a_refusal_ends_python_in_order(file):
    path = file(HEADER + b"1,2,x\n3,4\n" * 20_000)
    code = f"""
from pathlib import Path
from palate.data.tabular import csv_files
from palate.data.tabular.skipped_rows import SkippedRows
path = Path({str(path)!r})
dialect = csv_files.find_dialect(path, csv_files.CsvOptions())
list(csv_files.read_csv(path, dialect, ["user"], SkippedRows(False)))
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.endswith("events.csv:3: found 2 fields, expected 3 as in the header\n")


def test_quotes_may_be_text(file):
    path = file(HEADER.replace(b",", b"\t") + b'1\t2\t"open\n3\t4\t"open\n')
    assert rows_of(path, options=CsvOptions(quotes=False))[0] == [("1", "2", '"open'), ("3", "4", '"open')]


def test_two_colons_separate_at_every_block_boundary(file, monkeypatch):
    rows = [(str(n), f"Film: {n}{':' * (n % 2)} x", f"{n % 11}") for n in range(500)]
    path = file("\n".join("::".join(row) for row in rows).encode(), "movies.dat")
    options = CsvOptions(double_colon_columns=(("item", "title", "rating"),))
    for block in (1 << 20, 120, 121):
        monkeypatch.setattr(csv_files, "_BLOCK", block)
        found, _ = rows_of(path, ["item", "title", "rating"], options)
        assert found == [tuple(line.split("::")) for line in path.read_text().split("\n")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,item\n".encode("utf-16"), "UTF-16 text; save the file as UTF-8"),
        ("user,item\n".encode("utf-16-le"), "NUL bytes, as UTF-16 text does; save the file as UTF-8"),
        (b"user,item,user\n1,2,3\n", "names column 'user' more than once; rename one of them"),
        (b"PK\x03\x04 and so on", "a zip archive"),
        (b"\n\n", "the file is empty"),
        (gzip.compress(HEADER * 99_999)[:-400], "not a complete compressed file"),
        (HEADER + "1,2,é\n".encode("latin-1"), "bytes that are not UTF-8 text"),
    ],
)
def test_what_is_no_csv_is_refused_saying_so(file, content, message):
    with pytest.raises(DataError, match=message):
        rows_of(file(content))


def test_columns_without_a_name_are_passed_over(file):
    path = file(b",user,item,\n0,1,2,\n1,3,4,\n")
    assert rows_of(path, ["user", "item"])[0] == [("1", "2"), ("3", "4")]
